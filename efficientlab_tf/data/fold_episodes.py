"""Meta-test episodes of a fold, one for each test pair of its list (`fold_lists`)."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

from efficientlab_tf.data.fold_lists import PairRow, pairs_filename, read_pairs
from efficientlab_tf.data.folds import TEST, plain_name
from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.data.points import annotate, numbered
from efficientlab_tf.data.records import (
    DAMAGED,
    FRAME_BYTES,
    FRAME_HEADER,
    decode_example,
    parse_record,
    read_shard,
)
from efficientlab_tf.episode import Episode
from efficientlab_tf.errors import UserError, check_at_least
from efficientlab_tf.untrusted import reason_of


class Tasks(NamedTuple):
    """The tasks of a meta-test.

    Attributes:
      episodes: yields (episode, class name, number of the draw), as `fixed_episodes`.
      total: how many episodes there are.
      skipped: how many pairs of a fold's list have too few support pictures.
    """

    episodes: Iterator[tuple[Episode, str, int]]
    total: int
    skipped: int = 0


def fold_episodes(
    manifest: Manifest,
    fold: int,
    *,
    shots: int,
    image_size: int | tuple[int, int],
    limit: int | None = None,
    points: tuple[int, int] | None = None,
    seed: int = 0,
) -> Tasks:
    """Returns the episodes of a fold's list of test pairs, in its order.

    Each has one query. The number of its draw is that of the pair among those of its
    class, skipped ones included.

    Args:
      manifest: of a dataset with folds.
      fold: number of the fold.
      shots: support pictures of each episode, the first ones of a pair.
      image_size: side of a square, or (height, width), in pixels.
      limit: uses only the first so many pairs of the list.
      points: as in `episodes.episode_dataset`.
      seed: of the draws of points.

    Raises:
      UserError: no such fold, its list cannot be read or names a class or picture
        that the dataset lacks, no pair has enough support pictures, or a shard is
        damaged; a picture that cannot be decoded is found when its episode is made.
    """
    check_at_least(1, shots=shots, limit=limit)
    manifest.fold(fold)  # Raises, and names the folds.
    path = manifest.directory / pairs_filename(fold)
    rows = read_pairs(path)[:limit]
    drawn: Counter[str] = Counter()
    chosen: list[tuple[PairRow, int]] = []
    for row in rows:
        if len(row.support) >= shots:
            short = row._replace(support=row.support[:shots])
            chosen.append((short, drawn[row.class_name]))
        drawn[row.class_name] += 1
    if not chosen:
        most = max((len(row.support) for row in rows), default=0)
        raise UserError(
            f"{path}: none of {len(rows)} pairs has {shots} support pictures, the most "
            f"are {most}; lower `shots`"
        )
    pictures = _Pictures(manifest, fold, [row for row, _ in chosen], image_size)

    def episode(row: PairRow, draw: int) -> Episode:
        digest = hashlib.sha256(f"{fold} {row.class_name} {draw}".encode()).digest()
        name_key = int.from_bytes(digest[:8], "little", signed=True)
        with tf.device("CPU:0"):
            examples = [pictures(row.class_name, n) for n in (*row.support, row.query)]
            images, masks = map(tf.stack, zip(*examples, strict=True))
            masks = numbered(masks, 1)
            key = tf.constant([seed, name_key], tf.int64)
            return Episode(
                *(images[:-1], annotate(masks[:-1], points, 1, key)),
                *(images[-1:], masks[-1:]),
                name=tf.constant(row.class_name),
            )

    episodes = ((episode(row, draw), row.class_name, draw) for row, draw in chosen)
    return Tasks(episodes, len(chosen), len(rows) - len(chosen))


class _Pictures:
    """The pictures of pairs, by class and name.

    All shards are read at the start; of each picture its place in its shard is kept.
    """

    def __init__(
        self,
        manifest: Manifest,
        fold: int,
        pairs: Sequence[PairRow],
        image_size: int | tuple[int, int],
    ):
        self._image_size = image_size
        self._places: dict[tuple[str, str], tuple[Path, int, int]] = {}
        pairs_path = manifest.directory / pairs_filename(fold)
        entries = {plain_name(name): name for name in manifest.fold(fold)[TEST]}
        needed: dict[str, set[str]] = {}
        for pair in pairs:
            if pair.class_name not in entries:
                raise UserError(
                    f"{pairs_path} names class {pair.class_name!r}, but fold{fold} "
                    f"tests on {', '.join(entries)}; convert the dataset again"
                )
            names = needed.setdefault(pair.class_name, set())
            names.update((pair.query, *pair.support))
        for class_name, names in needed.items():
            path = manifest.shard_path(entries[class_name])
            offset = FRAME_HEADER
            for index, record in enumerate(read_shard(path)):
                place = path, offset, len(record)
                self._places[class_name, _filename(record, path, index)] = place
                offset += FRAME_BYTES + len(record)
            missing = sorted(n for n in names if (class_name, n) not in self._places)
            if missing:
                raise UserError(
                    f"{pairs_path} names {missing[0]} of {class_name}, which {path} "
                    f"lacks ({len(missing)} such names); convert the dataset again"
                )

    def __call__(self, class_name: str, name: str) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns an image, uint8 [H, W, 3], and its mask, uint8 [H, W]."""
        path, offset, length = self._places[class_name, name]
        try:
            with open(path, "rb") as file:
                file.seek(offset)
                record = file.read(length)
            return decode_example(tf.constant(record), self._image_size)
        except (OSError, *DAMAGED) as error:
            raise UserError(
                f"shard {path}: cannot decode {name} ({reason_of(error)}); copy the "
                "file again or convert the dataset again"
            ) from error


def _filename(record: bytes, path: Path, index: int) -> str:
    try:
        features = parse_record(tf.constant(record))
    except DAMAGED as error:
        raise UserError(
            f"shard {path}, record {index}: not an example with DeepLab's features; "
            "convert the dataset again"
        ) from error
    return Path(features["filename"].numpy().decode(errors="replace")).stem
