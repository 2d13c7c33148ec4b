"""Writes what a reader found as a dataset folder: shards, dataset.json, report.csv."""

import contextlib
import csv
import hashlib
import itertools
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from efficientlab_tf.data.example import LEFT_OUT, ClassData, Example, ReportRow
from efficientlab_tf.data.fold_lists import draw_pairs, pairs_filename, write_pairs
from efficientlab_tf.data.folds import (
    TEST,
    TEST_PREFIX,
    TRAIN_PREFIX,
    Fold,
    FoldPlan,
    plain_name,
)
from efficientlab_tf.data.manifest import FILENAME, ClassEntry, Manifest
from efficientlab_tf.data.records import write_shard
from efficientlab_tf.data.split_lists import load_splits, resolve_splits
from efficientlab_tf.errors import UserError
from efficientlab_tf.files import writing

REPORT = "report.csv"
REPORT_COLUMNS = ("class", "file", "action", "reason")
STAGING = ".partial"
ALL_CLASSES = {"all_train": TRAIN_PREFIX, "all_val": TEST_PREFIX}
"""Splits of a dataset with folds that hold nothing out, to the prefix of entries."""
SHARD_SUFFIX = ".tfrecord"


class Conversion(NamedTuple):
    """What a conversion wrote.

    Attributes:
      manifest: the dataset.
      rows: the report.
      too_few: the classes left out, with their numbers of usable examples.
      pairs: number of test pairs of each fold.
    """

    manifest: Manifest
    rows: list[ReportRow]
    too_few: dict[str, int]
    pairs: tuple[int, ...] = ()


def convert(
    classes: Iterable[ClassData],
    class_names: Sequence[str],
    output_dir: str | os.PathLike,
    *,
    splits: str | None = None,
    min_examples: int = 2,
    overwrite: bool = False,
    folds: FoldPlan | None = None,
    rows: Iterable[ReportRow] = (),
) -> Conversion:
    """Writes a dataset folder.

    Everything is written into a hidden folder inside `output_dir` and moved into place
    at the end, dataset.json last: an interrupted conversion leaves no half dataset, and
    an older dataset stays as it was.

    Args:
      classes: what a reader yields; the parts of a class must follow each other.
      class_names: the names of all these classes.
      output_dir: the dataset's folder, made if it does not exist.
      splits: as in `load_splits`; None makes a dataset without splits.
      min_examples: classes with fewer usable examples are left out.
      overwrite: replaces a dataset that is already there.
      folds: writes a dataset with folds and their lists of test pairs. Second copies
        of a picture in a class are left out, since a query must not be a copy of its
        support. Classes that are not written are dropped from the folds. Two splits
        hold nothing out, see `ALL_CLASSES`.
      rows: the report on files that belong to no class.

    Raises:
      UserError: the folder cannot be written or holds a dataset, or the splits
        name a class that the input lacks.
    """
    split_lists = load_splits(splits) if splits else {}
    split_lists = resolve_splits(split_lists, set(class_names))
    output_dir = Path(output_dir)
    check_output(output_dir, overwrite)
    staging = output_dir / STAGING
    with writing(f"into {output_dir}", "choose another folder"):
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
    try:
        writer = _ShardWriter(staging, min_examples, drop_copies=folds is not None)
        writer.rows += rows
        writer.write(classes, len(class_names))
        with open(staging / REPORT, "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerows([REPORT_COLUMNS, *writer.rows])
        entries = writer.entries

        def written(lists: Fold) -> Fold:
            return {
                split: tuple(name for name in names if name in entries)
                for split, names in lists.items()
            }

        usable_folds = tuple(map(written, folds.folds if folds else ()))
        pairs = []
        for number, fold in enumerate(usable_folds):
            pictures = {plain_name(n): writer.pictures[n] for n in fold[TEST]}
            drawn = draw_pairs(pictures, folds.pairs, seed=folds.seed, fold=number)
            write_pairs(staging / pairs_filename(number), drawn)
            pairs.append(len(drawn))
        if folds:
            split_lists = {
                split: tuple(n for n in class_names if n.startswith(prefix))
                for split, prefix in ALL_CLASSES.items()
            }
        name, splits_left = output_dir.resolve().name, written(split_lists)
        manifest = Manifest(name, entries, splits_left, output_dir, usable_folds)
        _publish(manifest, staging)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Conversion(manifest, writer.rows, writer.too_few, tuple(pairs))


def check_output(output_dir: str | os.PathLike, overwrite: bool) -> None:
    """Raises UserError if a folder holds a dataset and `overwrite` is false."""
    if (Path(output_dir) / FILENAME).exists() and not overwrite:
        raise UserError(
            f"{output_dir} already holds a dataset; choose another folder, or set "
            "`overwrite` to replace it"
        )


class _ShardWriter:
    """Writes classes one after another and keeps account of them."""

    def __init__(self, folder: Path, min_examples: int, drop_copies: bool):
        self._folder = folder
        # A shard without a record has no use.
        self._min_examples = max(min_examples, 1)
        self._drop_copies = drop_copies
        self.entries: dict[str, ClassEntry] = {}
        # Names without suffix.
        self.pictures: dict[str, list[str]] = {}
        self.rows: list[ReportRow] = []
        self.too_few: dict[str, int] = {}

    def write(self, classes: Iterable[ClassData], total: int) -> None:
        """Writes a shard for each class that has enough examples."""
        with tqdm(total=total, unit="class", desc="convert") as progress:
            for name, parts in itertools.groupby(classes, lambda part: part.class_name):
                path = self._folder / f"{name}{SHARD_SUFFIX}"
                info = write_shard(path, self._examples(name, parts, progress))
                if info.count < self._min_examples:
                    self.too_few[name] = info.count
                    path.unlink()
                else:
                    self.entries[name] = ClassEntry(path.name, info.count, info.sha256)
                progress.update()

    def _examples(
        self, name: str, parts: Iterable[ClassData], progress: tqdm
    ) -> Iterator[Example]:
        pictures = self.pictures.setdefault(name, [])
        first_of: dict[bytes, str] = {}
        for part in parts:
            self.rows += part.rows
            for example in part.examples:
                file = example.filename
                digest = hashlib.sha256(example.image).digest()
                first = first_of.setdefault(digest, file)
                if self._drop_copies and first != file:
                    reason = f"a copy of {first}"
                    self.rows.append(ReportRow(name, file, LEFT_OUT, reason))
                    continue
                pictures.append(Path(file).stem)
                yield example
            progress.set_postfix_str(f"{name}: {len(pictures)} examples", refresh=False)
            progress.update(0)


def _files_of(manifest: Manifest) -> set[str]:
    lists = {pairs_filename(number) for number in range(len(manifest.folds))}
    return lists | {entry.shard for entry in manifest.classes.values()}


def _publish(manifest: Manifest, staging: Path) -> None:
    """Moves the staged files into place; the report alone if there is no class.

    The old dataset.json is removed first, and the new one is written last.
    """
    output_dir = manifest.directory
    previous = output_dir / FILENAME
    files = _files_of(manifest)
    with writing(f"into {output_dir}", "check the folder"):
        if not manifest.classes:
            os.replace(staging / REPORT, output_dir / REPORT)
            return
        if previous.exists():
            obsolete: set[str] = set()
            # The files of a broken dataset are not known, so they stay.
            with contextlib.suppress(UserError):
                obsolete = _files_of(Manifest.load(output_dir)) - files
            previous.unlink()
            for name in obsolete:
                (output_dir / name).unlink(missing_ok=True)
        for name in [*sorted(files), REPORT]:
            os.replace(staging / name, output_dir / name)
    manifest.save()
