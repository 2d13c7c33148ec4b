"""Random rotation, zoom and perspective of images and masks, in one resampling.

A 3x3 homography maps a pixel of the result to its place in the picture, in coordinates
from -1 to 1 along both axes (the networks take square images, so a rotation stays one).
Homographies are multiplied, so a picture is interpolated only once.

TensorFlow's own ImageProjectiveTransform has no XLA kernel, so an inner loop
compiled for a GPU could not hold it; gathering does.
"""

import tensorflow as tf


def rotation(degrees: tf.Tensor) -> tf.Tensor:
    """Homographies [n, 3, 3] of rotations about the centre by degrees [n]."""
    angle = degrees * (3.141592653589793 / 180.0)
    zero, one = tf.zeros_like(angle), tf.ones_like(angle)
    cos, sin = tf.cos(angle), tf.sin(angle)
    return _stack([[cos, -sin, zero], [sin, cos, zero], [zero, zero, one]])


def zoom(factor: tf.Tensor, centre: tf.Tensor) -> tf.Tensor:
    """Homographies [n, 3, 3] that enlarge by factors [n].

    Args:
      factor: 1 changes nothing, 2 shows half of the width and height.
      centre: [n, 2], which part of the picture is shown, across and down: -1 the left
        or upper end, 0 the middle, 1 the right or lower end.
    """
    scale = 1.0 / factor
    across, down = tf.unstack(centre * (1.0 - scale)[:, tf.newaxis], axis=1)
    zero, one = tf.zeros_like(scale), tf.ones_like(scale)
    return _stack([[scale, zero, across], [zero, scale, down], [zero, zero, one]])


def perspective(tilt: tf.Tensor) -> tf.Tensor:
    """Homographies [n, 3, 3] of a picture seen from the side, tilts [n, 2].

    The denominator of the projection is 1 + tilt . (x, y): a tilt of 0.2 shows one
    edge at 1 / 0.8 and the opposite one at 1 / 1.2 of the scale of the middle.
    """
    across, down = tf.unstack(tilt, axis=1)
    zero, one = tf.zeros_like(across), tf.ones_like(across)
    return _stack([[one, zero, zero], [zero, one, zero], [across, down, one]])


def resample(
    images: tf.Tensor, masks: tf.Tensor, homographies: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Samples every pixel at the place that its homography gives.

    Outside of a picture lies its mirror image (for masks, too), so that no border
    appears that a network could learn. Images are interpolated bilinearly; masks take
    the nearest label.

    Args:
      images: float32 [n, H, W, 3].
      masks: uint8 [n, H, W].
      homographies: float32 [n, 3, 3].

    Returns:
      Images and masks of the same shapes and dtypes.
    """
    height, width = tf.shape(images)[1], tf.shape(images)[2]
    down, across = tf.meshgrid(_centres(height), _centres(width), indexing="ij")
    places = tf.stack([across, down, tf.ones_like(down)], axis=-1)
    x, y, w = tf.unstack(tf.einsum("nij,hwj->nhwi", homographies, places), axis=-1)
    x, y = _pixels(x / w, width), _pixels(y / w, height)

    flat = tf.reshape(images, [tf.shape(images)[0], -1, images.shape[-1]])

    def look_up(values, row, column):
        row, column = _mirrored(row, height), _mirrored(column, width)
        return tf.gather(values, row * width + column, axis=1, batch_dims=1)

    top, left = tf.floor(y), tf.floor(x)
    right, lower = (x - left)[..., tf.newaxis], (y - top)[..., tf.newaxis]
    row, column = tf.cast(top, tf.int32), tf.cast(left, tf.int32)
    above = look_up(flat, row, column) * (1.0 - right)
    above += look_up(flat, row, column + 1) * right
    below = look_up(flat, row + 1, column) * (1.0 - right)
    below += look_up(flat, row + 1, column + 1) * right
    nearest = look_up(
        tf.reshape(masks, [tf.shape(masks)[0], -1]),
        tf.cast(tf.floor(y + 0.5), tf.int32),
        tf.cast(tf.floor(x + 0.5), tf.int32),
    )
    return above * (1.0 - lower) + below * lower, nearest


def _stack(rows: list[list[tf.Tensor]]) -> tf.Tensor:
    return tf.stack([tf.stack(row, axis=-1) for row in rows], axis=-2)


def _centres(size: tf.Tensor) -> tf.Tensor:
    """Where the centres of `size` pixels lie between -1 and 1."""
    size = tf.cast(size, tf.float32)
    return (tf.range(size) + 0.5) * 2.0 / size - 1.0


def _pixels(place: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    return (place + 1.0) * tf.cast(size, tf.float32) / 2.0 - 0.5


def _mirrored(index: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Reflects indices at both borders, as often as it takes; edges repeat."""
    index = tf.math.floormod(index, 2 * size)
    return tf.minimum(index, 2 * size - 1 - index)
