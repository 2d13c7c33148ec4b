"""The gzip TFRecords that the EfficientLab paper's authors publish.

One class a file, CLASS.tfrecord.gzip; each record holds the raw uint8 bytes of
`image` [224, 224, 3] and `mask` [224, 224] or [224, 224, 3].
"""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

from efficientlab_tf.data.cleaning import encode_mask
from efficientlab_tf.data.example import CHANGED, REFUSED, ClassData, Example, ReportRow
from efficientlab_tf.data.mask_planes import array_plane
from efficientlab_tf.data.mask_readings import OBJECT, Reading
from efficientlab_tf.data.picture_files import Refused
from efficientlab_tf.errors import UserError

SIZE = 224
SUFFIX = ".tfrecord.gzip"

_FEATURES = dict.fromkeys(("image", "mask"), tf.io.FixedLenFeature([], tf.string))


def list_shards(input_dir: Path) -> dict[str, Path]:
    """Returns class name to shard.

    Raises:
      UserError: no such folder, or no shard in it.
    """
    input_dir = Path(input_dir)
    if not input_dir.is_dir():
        raise UserError(
            f"no such folder: {input_dir}; give the folder of CLASS{SUFFIX} files"
        )
    paths = sorted(input_dir.glob(f"*{SUFFIX}"))
    if not paths:
        raise UserError(f"{input_dir} holds no CLASS{SUFFIX} files; give their folder")
    return {path.name.removesuffix(SUFFIX): path for path in paths}


def read_mliis(shards: dict[str, Path]) -> Iterator[ClassData]:
    """Reads shards one after another; images are stored as PNG, without loss."""
    for class_name, path in shards.items():
        examples, rows, index = [], [], 0
        try:
            for serialized in tf.data.TFRecordDataset(str(path), "GZIP"):
                name = f"{index + 1}.png"
                try:
                    example, notes = _example(name, serialized)
                    examples.append(example)
                    if notes:
                        reason = "mask: " + "; ".join(notes)
                        rows.append(ReportRow(class_name, name, CHANGED, reason))
                except Refused as error:
                    reason = f"record {index} of {path.name}: {error}"
                    rows.append(ReportRow(class_name, name, REFUSED, reason))
                index += 1
        except tf.errors.OpError:
            reason = f"record {index}: truncated or corrupt; the rest cannot be read"
            rows.append(ReportRow(class_name, path.name, REFUSED, reason))
        yield ClassData(class_name, examples, rows)


def _example(name: str, serialized: tf.Tensor) -> tuple[Example, list[str]]:
    try:
        features = tf.io.parse_single_example(serialized, _FEATURES)
    except tf.errors.InvalidArgumentError:
        raise Refused("no features `image` and `mask` in it") from None
    image = np.frombuffer(features["image"].numpy(), np.uint8)
    mask = np.frombuffer(features["mask"].numpy(), np.uint8)
    area = SIZE * SIZE
    if image.size != 3 * area or mask.size not in (area, 3 * area):
        raise Refused(
            f"{image.size} bytes of image and {mask.size} of mask, expected {3 * area} "
            f"and {area} or {3 * area} ({SIZE}x{SIZE} pixels)"
        )
    plane = array_plane(mask.reshape(SIZE, SIZE, -1))
    indices, notes = Reading(OBJECT).apply(plane)
    buffer = io.BytesIO()
    Image.fromarray(image.reshape(SIZE, SIZE, 3)).save(buffer, "PNG")
    stored = buffer.getvalue(), "png", encode_mask(indices)
    return Example(name, *stored, height=SIZE, width=SIZE), notes
