"""Labelled pictures at a network's size. No TensorFlow here: workers import this."""

import numpy as np
from PIL import Image

from efficientlab_tf.data.mask_readings import UNKNOWN
from efficientlab_tf.data.picture_files import bands


def resize_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes an image uint8 [H, W, 3] to (height, width): bilinear, antialiased."""
    target = size[::-1]
    return np.asarray(Image.fromarray(image).resize(target, Image.Resampling.BILINEAR))


def resize_annotations(
    masks: np.ndarray, size: tuple[int, int], unknown: int = UNKNOWN
) -> np.ndarray:
    """Brings support masks to another size without losing points.

    A mask that knows at least half of its pixels is resized to the nearest pixel. Of
    one that knows less each point goes to where it falls; of several in one place the
    largest label stays.

    Args:
      masks: whole numbers [k, H, W].
      size: height and width in pixels.
      unknown: what pixels have that nobody labelled.

    Returns:
      [k, *size], of the same type.
    """
    masks = np.asarray(masks)
    (_, old_height, old_width), (height, width) = masks.shape, size
    rows = (2 * np.arange(height) + 1) * old_height // (2 * height)
    columns = (2 * np.arange(width) + 1) * old_width // (2 * width)
    result = masks[:, rows[:, np.newaxis], columns]
    for i, mask in enumerate(masks):
        known = mask != unknown
        if 2 * np.count_nonzero(known) >= mask.size:
            continue
        least = np.iinfo(np.int64).min
        sparse = np.full(size, least)
        for band in bands(old_height, old_width):
            rows, columns = np.nonzero(known[band])
            rows += band.start
            cells = (
                (2 * rows + 1) * height // (2 * old_height),
                (2 * columns + 1) * width // (2 * old_width),
            )
            np.maximum.at(sparse, cells, mask[rows, columns])
        result[i] = np.where(sparse == least, unknown, sparse)
    return result
