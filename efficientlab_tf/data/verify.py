"""Checks every byte of a dataset; names the shard and the record of each fault."""

import os
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tqdm import tqdm

from efficientlab_tf.data.fold_lists import pairs_filename, read_pairs
from efficientlab_tf.data.folds import TEST, plain_name
from efficientlab_tf.data.manifest import ClassEntry, Manifest
from efficientlab_tf.data.records import (
    DAMAGED,
    IMAGE_FORMATS,
    decode_example,
    file_sha256,
    parse_record,
    read_shard,
)
from efficientlab_tf.errors import UserError
from efficientlab_tf.streaming import cores
from efficientlab_tf.untrusted import reason_of


class Verification(NamedTuple):
    """What was checked and found.

    Attributes:
      faults: one line each; empty if the dataset is sound.
      classes: number of classes in the manifest.
      examples: number of examples that can be decoded.
      bytes: size of all shards.
    """

    faults: list[str]
    classes: int
    examples: int
    bytes: int


def verify_dataset(dataset_dir: str | os.PathLike) -> Verification:
    """Compares shards with the manifest and decodes every example.

    If the dataset has folds, their lists of test pairs are checked, too: the classes
    and pictures must exist, and no picture may be twice in a pair.

    Raises:
      UserError: there is no dataset to check (see `Manifest.load`).
    """
    manifest = Manifest.load(dataset_dir)
    faults: list[str] = []
    examples = 0
    size = 0
    pictures: dict[str, set[str]] = {}
    with ThreadPoolExecutor(cores()) as pool:
        results = pool.map(
            lambda name: _verify_shard(
                manifest.shard_path(name), manifest.classes[name]
            ),
            manifest.classes,
        )
        total = len(manifest.classes)
        progress = tqdm(results, total=total, unit="class", desc="verify")
        for name, (found, stems) in zip(manifest.classes, progress, strict=True):
            faults += found
            examples += len(stems)
            pictures[name] = set(stems)
    for number in range(len(manifest.folds)):
        faults += _verify_pairs(manifest, number, pictures)
    for name in manifest.classes:
        size += manifest.shard_path(name).stat().st_size
    return Verification(faults, len(manifest.classes), examples, size)


def read_frames(path: Path) -> Iterator[tuple[int, bytes | None, str]]:
    """Reads a TFRecord file frame by frame, past records that are damaged.

    TensorFlow's own reader ends at the first of them.

    Yields:
      (index, record, fault): the record, or None and what is wrong with it.
    """
    # A frame: length (uint64), its checksum, the record, its checksum (uint32),
    # all little-endian.
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        index = 0
        while header := file.read(12):
            if len(header) < 12:
                yield index, None, "truncated in the record's header"
                return
            length, length_checksum = struct.unpack("<QI", header)
            if masked_crc32c(header[:8]) != length_checksum:
                yield (
                    index,
                    None,
                    "corrupt length; the records after it cannot be found",
                )
                return
            left = size - file.tell()
            if left < length + 4:
                yield index, None, f"truncated: {left} of {length + 4} bytes are there"
                return
            body = file.read(length + 4)
            record = body[:length]
            (checksum,) = struct.unpack("<I", body[length:])
            if masked_crc32c(record) == checksum:
                yield index, record, ""
            else:
                yield index, None, "corrupt: checksum does not match"
            index += 1


def _verify_pairs(
    manifest: Manifest, fold: int, pictures: dict[str, set[str]]
) -> list[str]:
    path = manifest.directory / pairs_filename(fold)
    try:
        rows = read_pairs(path)
    except UserError as error:
        return [str(error)]
    known = {plain_name(name): pictures[name] for name in manifest.folds[fold][TEST]}
    faults = []
    for line, row in enumerate(rows, start=2):
        names = [row.query, *row.support]
        if row.class_name not in known:
            faults.append(f"{path}:{line}: {row.class_name} is no test class")
        elif missing := [n for n in names if n not in known[row.class_name]]:
            faults.append(f"{path}:{line}: {row.class_name} has no {missing[0]}")
        elif len(set(names)) < len(names):
            faults.append(f"{path}:{line}: a picture is named twice")
    return faults


def _verify_shard(path: Path, entry: ClassEntry) -> tuple[list[str], list[str]]:
    """Returns the faults of a shard, and the names of its sound pictures."""
    faults = []
    try:
        if file_sha256(path) != entry.sha256:
            faults.append(f"{path}: sha256 differs from the manifest's")
    except OSError as error:
        return [f"{path}: cannot be read: {error.strerror}"], []
    good = []
    count = 0
    for index, record, fault in _all_frames(path):
        count += 1
        name = ""
        if not fault:
            name, fault = _verify_record(record)
        if fault:
            faults.append(f"{path}, record {index}: {fault}")
        else:
            good.append(Path(name).stem)
    if count != entry.count:
        faults.append(f"{path}: {count} records, the manifest says {entry.count}")
    return faults, good


def _all_frames(path: Path) -> Iterator[tuple[int, bytes | None, str]]:
    """As `read_frames`, but fast until the first damaged record.

    Checksums in Python are slow, and needed only where TensorFlow's reader ends.
    """
    index = -1
    try:
        for index, record in enumerate(read_shard(path)):
            yield index, record, ""
    except UserError:
        yield from (frame for frame in read_frames(path) if frame[0] > index)


def _verify_record(record: bytes) -> tuple[str, str]:
    """Returns a record's file name, and what is wrong with it, or ""."""
    try:
        features = parse_record(record)
    except DAMAGED:
        return "", "not an example with DeepLab's features"
    declared = features["image_format"].numpy().decode(errors="replace")
    name = features["filename"].numpy().decode(errors="replace")
    if declared not in IMAGE_FORMATS:
        return name, f"{name}: image format {declared!r}, expected {IMAGE_FORMATS}"
    try:
        image, mask = decode_example(record, None)
    except DAMAGED as error:
        return name, f"{name}: cannot be decoded ({reason_of(error)})"
    size = (int(features["height"]), int(features["width"]))
    if tuple(image.shape[:2]) != size or tuple(mask.shape) != size:
        return name, (
            f"{name}: image is {image.shape[0]}x{image.shape[1]}, mask "
            f"{mask.shape[0]}x{mask.shape[1]}, the record says {size[0]}x{size[1]}"
        )
    return name, ""
