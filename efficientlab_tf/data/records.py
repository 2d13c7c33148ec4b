"""Shards: one uncompressed TFRecord per class, with DeepLab's feature names.

Each record is a `tf.train.Example` of one image and its mask, both encoded, so
a shard is about as large as the files it was made from.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

from efficientlab_tf.data.example import Example
from efficientlab_tf.errors import UserError
from efficientlab_tf.files import replacing

__all__ = [
    "Example",
    "ShardInfo",
    "decode_example",
    "encode_example",
    "parse_record",
    "read_shard",
    "write_shard",
]

DAMAGED = (tf.errors.OpError, UnicodeDecodeError)
"""What TensorFlow raises for a record that it cannot parse or decode; the second when
the damaged bytes are part of its own message."""

IMAGE_FORMATS = ("jpeg", "png")

FRAME_HEADER = 12
"""Bytes before a record in its shard: its length (uint64) and the length's checksum."""
FRAME_BYTES = FRAME_HEADER + 4
"""Bytes around a record: the header before it and the record's checksum after it."""

IMAGE_FEATURE = "image/encoded"
_FEATURES = {
    "image": (IMAGE_FEATURE, tf.string),
    "image_format": ("image/format", tf.string),
    "filename": ("image/filename", tf.string),
    "mask": ("image/segmentation/class/encoded", tf.string),
    "height": ("image/height", tf.int64),
    "width": ("image/width", tf.int64),
}
"""A field of `Example` to the name and type of its feature."""
_MASK_FORMAT = "image/segmentation/class/format"


class ShardInfo(NamedTuple):
    """What dataset.json records about a shard.

    Attributes:
      count: number of records.
      sha256: hexadecimal digest of the whole file.
    """

    count: int
    sha256: str


def encode_example(example: Example) -> bytes:
    """Returns `example` as a serialized `tf.train.Example`.

    Raises:
      UserError: `example.image_format` is not one of `IMAGE_FORMATS`.
    """
    if example.image_format not in IMAGE_FORMATS:
        raise UserError(
            f"{example.filename}: image format is {example.image_format!r}, expected "
            f"one of {', '.join(IMAGE_FORMATS)}; re-encode the image"
        )

    def feature(value: bytes | str | int) -> tf.train.Feature:
        if isinstance(value, int):
            return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        value = value.encode() if isinstance(value, str) else value
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    features = {
        name: feature(getattr(example, field)) for field, (name, _) in _FEATURES.items()
    }
    features[_MASK_FORMAT] = feature("png")
    record = tf.train.Example(features=tf.train.Features(feature=features))
    # Deterministic, since a shard is identified by the digest of its bytes.
    return record.SerializeToString(deterministic=True)


def parse_record(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """Parses one record; works eagerly, in `tf.function` and in `tf.data`.

    Args:
      serialized: string scalar from `encode_example`.

    Returns:
      A dict of scalars: strings `image`, `image_format`, `filename`, `mask`;
      int64 `height`, `width`.

    Raises:
      DAMAGED: when run on a record that lacks a feature.
    """
    wanted = [*_FEATURES.values(), (_MASK_FORMAT, tf.string)]
    features = tf.io.parse_single_example(
        serialized, {name: tf.io.FixedLenFeature([], dtype) for name, dtype in wanted}
    )
    return {field: features[name] for field, (name, _) in _FEATURES.items()}


def decode_example(
    serialized: tf.Tensor, image_size: int | tuple[int, int] | None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes one record; works eagerly, in `tf.function` and in `tf.data`.

    Examples of another size are resized: images bilinearly with antialiasing,
    masks to the nearest pixel. The result is a deterministic function of the record.

    Args:
      serialized: string scalar from `encode_example`.
      image_size: side of the square, or (height, width), in pixels; None keeps
        the stored size.

    Returns:
      (image, mask): uint8 [H, W, 3] RGB in 0..255; uint8 [H, W] with 0
      background, 1..K classes, 255 unknown.

    Raises:
      DAMAGED: when run on a record that cannot be decoded.
    """
    record = parse_record(serialized)
    image = tf.cond(
        record["image_format"] == "png",
        lambda: tf.io.decode_png(record["image"], channels=3),
        # The default method may differ between machines by a grey level.
        lambda: tf.io.decode_jpeg(
            record["image"], channels=3, dct_method="INTEGER_ACCURATE"
        ),
    )
    image = tf.ensure_shape(image, [None, None, 3])
    mask = tf.io.decode_png(record["mask"], channels=1)
    if image_size is None:
        return image, mask[..., 0]
    if isinstance(image_size, int):
        image_size = (image_size, image_size)

    def resized_image() -> tf.Tensor:
        values = tf.image.resize(image, image_size, method="bilinear", antialias=True)
        return tf.cast(tf.clip_by_value(tf.round(values), 0.0, 255.0), tf.uint8)

    def resized_mask() -> tf.Tensor:
        return tf.image.resize(mask, image_size, method="nearest")

    def has_size(tensor: tf.Tensor) -> tf.Tensor:
        return tf.reduce_all(tf.shape(tensor)[:2] == tf.constant(image_size))

    image = tf.cond(has_size(image), lambda: image, resized_image)
    mask = tf.cond(has_size(mask), lambda: mask, resized_mask)
    image = tf.ensure_shape(image, [*image_size, 3])
    mask = tf.ensure_shape(mask, [*image_size, 1])
    return image, mask[..., 0]


def write_shard(path: str | os.PathLike, examples: Iterable[Example]) -> ShardInfo:
    """Writes `examples` as one shard; `path` appears complete or not at all.

    Raises:
      UserError: the file cannot be written, or an example cannot be stored.
    """
    path = Path(path)
    count = 0
    try:
        with replacing(path) as partial:
            with tf.io.TFRecordWriter(str(partial)) as writer:
                for example in examples:
                    writer.write(encode_example(example))
                    count += 1
            return ShardInfo(count, file_sha256(partial))
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "message", error)
        raise UserError(
            f"cannot write shard {path}: {reason}; check the folder and the free space"
        ) from error


def read_shard(path: str | os.PathLike) -> Iterator[bytes]:
    """Yields the serialized records of a shard in stored order.

    Raises:
      UserError: no such shard, or a truncated or corrupt record; the message
        names the shard and the record's index, counted from 0.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no shard {path}; convert the dataset again")
    index = 0
    try:
        for record in tf.data.TFRecordDataset(str(path)):
            yield record.numpy()
            index += 1
    except tf.errors.OpError as error:
        raise UserError(
            f"shard {path}, record {index}: truncated or corrupt "
            "(checksum does not match); copy the file again or convert again"
        ) from error


def file_sha256(path: str | os.PathLike) -> str:
    """Returns the hexadecimal SHA-256 digest of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
