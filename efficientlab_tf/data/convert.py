"""From a reader's classes to a dataset folder: shards, dataset.json, report.csv."""

import csv
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from efficientlab_tf.data.manifest import FILENAME, ClassEntry, Manifest
from efficientlab_tf.data.pair import CHANGED, REFUSED, ClassData, ReportRow
from efficientlab_tf.data.records import write_shard
from efficientlab_tf.data.split_lists import load_splits, resolve_splits
from efficientlab_tf.errors import UserError

REPORT = "report.csv"
REPORT_COLUMNS = ("class", "file", "action", "reason")
STAGING = ".partial"
SHARD_SUFFIX = ".tfrecord"
MAX_LINES = 20


class Conversion(NamedTuple):
    """What a conversion did.

    Attributes:
      manifest: the dataset as written.
      rows: the report.
      too_few: class to its number of usable pairs, for those left out.
    """

    manifest: Manifest
    rows: list[ReportRow]
    too_few: dict[str, int]


def convert(
    classes: Iterable[ClassData],
    class_names: Sequence[str],
    output_dir: str | os.PathLike,
    *,
    splits: str | None = None,
    min_pairs: int = 2,
    overwrite: bool = False,
) -> Conversion:
    """Writes a dataset folder.

    Everything is written into a hidden folder inside `output_dir` and moved into
    place at the end, dataset.json last: a conversion that dies on its way leaves
    nothing that could be taken for a dataset, and an older dataset as it was.

    Args:
      classes: a reader's classes.
      class_names: the names of all of them, known beforehand.
      output_dir: the dataset's folder, made if it does not exist.
      splits: as in `load_splits`; None makes a dataset without splits.
      min_pairs: classes with fewer usable pairs are left out.
      overwrite: replaces a dataset that is already there.

    Raises:
      UserError: the folder cannot be written or holds a dataset, or the splits
        name a class that the input lacks.
    """
    split_lists = load_splits(splits) if splits else {}
    split_lists = resolve_splits(split_lists, set(class_names))
    output_dir = Path(output_dir)
    if (output_dir / FILENAME).exists() and not overwrite:
        raise UserError(
            f"{output_dir} already holds a dataset; choose another folder, or give "
            "--overwrite to replace it"
        )
    staging = output_dir / STAGING
    try:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
    except OSError as error:
        raise UserError(
            f"cannot write into {output_dir}: {error.strerror}; choose another folder"
        ) from error
    try:
        entries, rows, too_few = _write_shards(
            classes, len(class_names), staging, min_pairs
        )
        _write_report(staging / REPORT, rows)
        manifest = Manifest(
            name=output_dir.resolve().name,
            classes=entries,
            splits={
                split: tuple(name for name in names if name not in too_few)
                for split, names in split_lists.items()
            },
            directory=output_dir,
        )
        _publish(manifest, staging)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Conversion(manifest, rows, too_few)


def summarize(conversion: Conversion, strict: bool = False) -> int:
    """Prints what was done and returns the command's exit status.

    Args:
      conversion: from `convert`.
      strict: a refused file is a failure, too; otherwise only a class that has
        too few pairs is.
    """
    manifest, rows, too_few = conversion
    refused = [row for row in rows if row.action == REFUSED]
    for row in refused[:MAX_LINES]:
        print(f"refused: {row.class_name}/{row.file}: {row.reason}", file=sys.stderr)
    report = manifest.directory / REPORT
    if len(refused) > MAX_LINES:
        print(
            f"refused: {len(refused) - MAX_LINES} more, see {report}", file=sys.stderr
        )
    for name, count in too_few.items():
        print(
            f"error: class {name} left out: {count} usable pairs are too few; see "
            f"{report}, add pairs or lower --min_pairs",
            file=sys.stderr,
        )
    pairs = sum(entry.count for entry in manifest.classes.values())
    changed = sum(row.action == CHANGED for row in rows)
    print(f"{manifest.directory}: {len(manifest.classes)} classes, {pairs} pairs")
    if not manifest.classes:
        print(f"no class is usable, so no {FILENAME} was written")
    for split, names in manifest.splits.items():
        print(f"  {split}: {len(names)} classes")
    if manifest.splits:
        outside = len(manifest.classes) - sum(map(len, manifest.splits.values()))
        if outside:
            print(f"  in no split: {outside} classes")
    print(f"{changed} files changed, {len(refused)} refused; why: {report}")
    return 1 if too_few or (strict and refused) else 0


def _write_shards(
    classes: Iterable[ClassData], total: int, staging: Path, min_pairs: int
) -> tuple[dict[str, ClassEntry], list[ReportRow], dict[str, int]]:
    entries: dict[str, ClassEntry] = {}
    rows: list[ReportRow] = []
    too_few: dict[str, int] = {}
    with tqdm(classes, total=total, unit="class", desc="convert") as progress:
        for class_name, pairs, class_rows in progress:
            rows += class_rows
            # A shard without a record would be of use to nobody.
            if len(pairs) < max(min_pairs, 1):
                too_few[class_name] = len(pairs)
                continue
            shard = class_name + SHARD_SUFFIX
            info = write_shard(staging / shard, pairs)
            entries[class_name] = ClassEntry(shard, info.count, info.sha256)
    return entries, rows, too_few


def _write_report(path: Path, rows: Iterable[ReportRow]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(REPORT_COLUMNS)
        writer.writerows(rows)


def _shards_of(dataset_dir: Path) -> set[str]:
    try:
        return {entry.shard for entry in Manifest.load(dataset_dir).classes.values()}
    except UserError:
        return set()  # What a broken dataset wrote is not known, so it stays.


def _publish(manifest: Manifest, staging: Path) -> None:
    """Moves the staged files into place; dataset.json goes first and comes last.

    Without any class only the report is of use, and an older dataset stays.
    """
    output_dir = manifest.directory
    previous = output_dir / FILENAME
    shards = {entry.shard for entry in manifest.classes.values()}
    try:
        if not shards:
            os.replace(staging / REPORT, output_dir / REPORT)
            return
        if previous.exists():
            obsolete = _shards_of(output_dir) - shards
            previous.unlink()
            for shard in obsolete:
                (output_dir / shard).unlink(missing_ok=True)
        for name in [*sorted(shards), REPORT]:
            os.replace(staging / name, output_dir / name)
    except OSError as error:
        raise UserError(
            f"cannot write into {output_dir}: {error.strerror}; check the folder"
        ) from error
    manifest.save()
