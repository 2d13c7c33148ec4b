"""From a picture to what a network takes, and back to the picture's own size.

A picture keeps its aspect: its longer side is brought to so many pixels, and its right
and bottom edges are repeated up to multiples of 32. No loss and no measure counts what
was added. All of it is TensorFlow, so that an exported model does exactly the same.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from efficientlab_tf.data.annotations import resize_annotations
from efficientlab_tf.episode import IGNORE

MULTIPLE = 32
"""What the sides of a canvas are multiples of: the largest stride of an encoder."""
MOST_ENLARGED = 2.0
"""No picture is enlarged more: that would show nothing new."""


class Framed(NamedTuple):
    """A picture on its canvas.

    Attributes:
      canvas: float32 [H', W', 3]; H' and W' multiples of 32, or both the side.
      inner: int32 [2], height and width of the picture on it, from the top left.
    """

    canvas: tf.Tensor
    inner: tf.Tensor


def inner_size(size: tf.Tensor, side: int | tf.Tensor) -> tf.Tensor:
    """The height and width, int32 [2], at which a picture of `size`, int32 [2], is put.

    Args:
      size: of the picture.
      side: wanted of the longer side, in pixels.
    """
    size = tf.cast(size, tf.float32)
    scale = tf.cast(side, tf.float32) / tf.reduce_max(size)
    scale = tf.minimum(scale, MOST_ENLARGED)
    return tf.maximum(tf.cast(tf.round(size * scale), tf.int32), 1)


def frame(image: tf.Tensor, side: int | tf.Tensor, square: bool = False) -> Framed:
    """Puts a picture on a canvas.

    Args:
      image: float32 [H, W, 3].
      side: of the longer side, in pixels; a multiple of 32.
      square: whether the canvas is a square of that side.
    """
    inner = inner_size(tf.shape(image)[:2], side)
    image = tf.image.resize(image, inner, antialias=True)
    canvas = tf.stack([side, side]) if square else -(-inner // MULTIPLE) * MULTIPLE
    for axis in (0, 1):
        repeated = tf.minimum(tf.range(canvas[axis]), inner[axis] - 1)
        image = tf.gather(image, repeated, axis=axis)
    return Framed(image, inner)


def unframe(
    values: tf.Tensor, inner: tf.Tensor, stride: int, size: tf.Tensor
) -> tf.Tensor:
    """Brings what was found on a canvas to the picture's pixels, bilinearly.

    Args:
      values: float32 [h, w, C], of cells of `stride` pixels.
      inner: see `Framed`.
      stride: of the values.
      size: int32 [2], height and width of the result.

    Returns:
      float32 [*size, C].
    """
    for axis, equation in enumerate(("hH,HWc->hWc", "wW,hWc->hwc")):
        length = tf.shape(values)[axis]
        used = tf.cast(inner[axis], tf.float32) / stride
        matrix = _rows(length, used, size[axis])
        values = tf.einsum(equation, matrix, values)
    return values


def _rows(source: tf.Tensor, used: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
    """Interpolation from the first `used` of `source` cells to `target` pixels."""
    centres = (tf.range(tf.cast(target, tf.float32)) + 0.5) * used
    centres /= tf.cast(target, tf.float32)
    last = tf.cast(source, tf.float32) - 0.5
    centres = tf.clip_by_value(centres, 0.5, last)
    points = tf.range(tf.cast(source, tf.float32)) + 0.5
    scale = tf.maximum(used / tf.cast(target, tf.float32), 1.0)
    distance = tf.abs(points[tf.newaxis] - centres[:, tf.newaxis])
    weights = tf.nn.relu(1.0 - distance / scale)
    return weights / tf.reduce_sum(weights, axis=1, keepdims=True)


def frame_mask(mask: np.ndarray, side: int, square: bool = False) -> np.ndarray:
    """Puts a mask, uint8 [H, W], on the canvas of its picture, without losing points.

    What is beside the picture is 255.
    """
    inner = inner_size(tf.constant(mask.shape), side).numpy()
    small = resize_annotations(mask[np.newaxis], tuple(inner.tolist()))[0]
    canvas = (side, side) if square else tuple(-(-inner // MULTIPLE) * MULTIPLE)
    result = np.full(canvas, IGNORE, np.uint8)
    result[: inner[0], : inner[1]] = small
    return result


def shares(mask: np.ndarray, classes: int, side: int, stride: int) -> np.ndarray:
    """The share of each label in each cell of a picture's canvas.

    Args:
      mask: uint8 [H, W]; 0..K, 255 unknown.
      classes: K.
      side: see `frame`.
      stride: of the cells, in pixels.

    Returns:
      float32 [h, w, K+1]; the sum over labels is the known part of the cell.
    """
    inner = inner_size(tf.constant(mask.shape), side).numpy()
    canvas = -(-inner // MULTIPLE) * MULTIPLE
    result = np.zeros([*canvas // stride, classes + 1], np.float32)
    for label in range(classes + 1):
        plane = Image.fromarray(np.where(mask == label, np.float32(1), np.float32(0)))
        plane = plane.resize(inner[::-1].tolist(), Image.BOX)
        padded = np.zeros(canvas, np.float32)
        padded[: inner[0], : inner[1]] = plane
        cells = padded.reshape(len(result), stride, -1, stride)
        result[..., label] = cells.mean((1, 3))
    return result
