"""What a served model demands of a request, checked inside the graph.

A failed check ends the request as INVALID_ARGUMENT with the sentence given here; the
server lives on. Each function returns its input behind the checks, so that nothing
that uses it can run before they have passed.
"""

import tensorflow as tf

from efficientlab_tf.config import ExportConfig
from efficientlab_tf.episode import IGNORE


def require(condition: tf.Tensor, *message: str | tf.Tensor) -> tf.Operation:
    """An operation that fails with `message` unless `condition`."""
    return tf.debugging.Assert(condition, list(message), summarize=8)


def behind(checks: list[tf.Operation], tensor: tf.Tensor) -> tf.Tensor:
    """Returns `tensor` as something that exists only if all `checks` pass."""
    with tf.control_dependencies(checks):
        return tf.identity(tensor)


def checked_count(name: str, tensor: tf.Tensor, max_images: int) -> tf.Tensor:
    """Demands 1 to `max_images` items along the first axis."""
    count = tf.shape(tensor)[0]
    expected = f"{name}: expected 1 to {max_images} images, received "
    fits = require((count >= 1) & (count <= max_images), expected, count)
    return behind([fits], tensor)


def checked_images(name: str, images: tf.Tensor, limits: ExportConfig) -> tf.Tensor:
    """Demands float images [n, H, W, 3] in 0..255, not too many and not too large."""
    max_side = limits.max_side
    images = tf.ensure_shape(images, [None, None, None, 3])
    images = checked_count(name, images, limits.max_images)
    size = tf.shape(images)[1:3]
    sides = require(
        tf.reduce_all((size >= 1) & (size <= max_side)),
        f"{name}: expected sides of 1 to {max_side} pixels, received height and width ",
        size,
    )
    images = behind([sides], images)
    # NaN fails this comparison, as it should.
    values = require(
        tf.reduce_all((images >= 0.0) & (images <= 255.0)),
        f"{name}: expected numbers from 0 to 255, received some from ",
        *(tf.reduce_min(images), " to ", tf.reduce_max(images)),
    )
    return behind([values], images)


def checked_masks(
    name: str, masks: tf.Tensor, images: tf.Tensor, classes: int
) -> tf.Tensor:
    """Demands uint8 masks [n, H, W] that fit to `images` and mark something."""
    masks = tf.ensure_shape(masks, [None, None, None])
    shape, expected = tf.shape(masks), tf.shape(images)[:3]
    fits = require(
        tf.reduce_all(shape == expected),
        f"{name}: expected one mask an image, of its size: number, height and width ",
        *(expected, " received ", shape),
    )
    masks = behind([fits], masks)
    objects = "1" if classes == 1 else f"1 to {classes}"
    known = masks != IGNORE
    any_known = tf.reduce_any(known)
    checks = [
        require(
            tf.reduce_all(tf.logical_not(known) | (masks <= classes)),
            f"{name}: expected labels 0 (background), {objects} (object) and {IGNORE} "
            "(unknown), received ",
            tf.reduce_max(tf.where(known, tf.cast(masks, tf.int32), 0)),
        ),
        require(
            any_known, f"{name}: every pixel is {IGNORE}, unknown; label some pixels"
        ),
        require(
            tf.reduce_any(known & (masks > 0)) | tf.logical_not(any_known),
            f"{name}: no pixel is labelled as object ({objects}); {IGNORE} is unknown",
        ),
    ]
    return behind(checks, masks)
