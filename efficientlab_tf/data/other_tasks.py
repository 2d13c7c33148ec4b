"""Tasks that are not whole objects, so that a network cannot guess what is asked.

A network that has only ever been asked for whole objects finds one without reading its
support set. These tasks are made of pictures of any class:

part     what lies on one side of a line through each picture's foreground. Direction
         and place of the line are those of the task: the upper third, for example.
region   all that looks like one place of a support picture: its colour, and how much
         the colour changes around it. What was the foreground is forgotten.
union    the objects of two classes, each in half of the pictures; see
         `episode_drawing`.
"""

import math

import tensorflow as tf

from efficientlab_tf.data.draws import uniform

_fold_in = tf.random.experimental.stateless_fold_in

# Salts of a task's random streams.
_PART, _REGION = 10_000, 11_000

_REST = 2
"""Stands in a mask for the rest of an object of which a part is asked for: what is cut
out and pasted elsewhere is the whole object."""
PART = (0.3, 0.7)
"""Smallest and largest part of the foreground's extent."""
REGION = (0.05, 0.4)
"""Smallest and largest share of the support pictures' pixels that is a region."""
_WEIGHTS = (1.0, 3.0, 3.0, 2.0)
"""Of luma, both chroma and the luma's standard deviation in how alike pixels look:
chroma varies less in photographs, and says more of what something is."""


def mark_part(masks: tf.Tensor, rate: float, key: tf.Tensor) -> tf.Tensor:
    """Marks a part of each picture's foreground, by chance of the task.

    Args:
      masks: uint8 [n, H, W] of 0, 1 and 255.
      rate: the chance.
      key: int [2], of the task, which decides direction and extent of the part.

    Returns:
      The same, and what is not of the part is marked as the object's rest; see
      `without_rest`.
    """
    key = _fold_in(key, _PART)
    chosen, turn, extent = tf.unstack(uniform([3], key))
    turn, extent = 2 * math.pi * turn, PART[0] + (PART[1] - PART[0]) * extent
    height, width = masks.shape[1:]

    def marked():
        y = tf.range(height, dtype=tf.float32)[:, tf.newaxis] * tf.sin(turn)
        along = y + tf.range(width, dtype=tf.float32) * tf.cos(turn)
        inside = masks == 1
        far = float(height + width)
        low = tf.reduce_min(tf.where(inside, along, far), [1, 2], keepdims=True)
        high = tf.reduce_max(tf.where(inside, along, -far), [1, 2], keepdims=True)
        part = along - low < extent * (high - low)
        return tf.where(inside & ~part, tf.constant(_REST, masks.dtype), masks)

    return tf.cond(chosen < rate, marked, lambda: masks)


def without_rest(masks: tf.Tensor) -> tf.Tensor:
    """Makes background of what `mark_part` has left out."""
    return tf.where(masks == _REST, tf.zeros_like(masks), masks)


def region(
    support: tuple[tf.Tensor, tf.Tensor],
    query: tuple[tf.Tensor, tf.Tensor],
    rate: float,
    key: tf.Tensor,
) -> tuple[tuple[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Asks for what looks like a place of a support picture, by chance of the task.

    Pixels are compared by the mean of the colour around them and by the standard
    deviation of the luma there. As many of the support pictures' pixels as are drawn
    are the foreground; in the query pictures it is what is as near.

    Args:
      support: images uint8 [k, H, W, 3] and masks uint8 [k, H, W].
      query: the same, of the query set.
      rate: the chance.
      key: int [2], of the task.

    Returns:
      Both, with other masks. Those of regions have no unknown pixels.
    """
    key = _fold_in(key, _REGION)
    chosen, share, place = tf.unstack(uniform([3], key))

    def masks():
        looks, others = _looks(support[0]), _looks(query[0])
        flat = tf.reshape(looks, [-1, looks.shape[-1]])
        count = flat.shape[0]
        sample = flat[tf.minimum(tf.cast(place * count, tf.int32), count - 1)]
        # Each seventh pixel says well enough how far they are.
        far = tf.sort(_distance(flat[::7], sample))
        wanted = REGION[0] + (REGION[1] - REGION[0]) * share
        limit = far[tf.cast(wanted * far.shape[0], tf.int32)]
        return tuple(
            tf.cast(_distance(x, sample) <= limit, tf.uint8) for x in (looks, others)
        )

    made = tf.cond(chosen < rate, masks, lambda: (support[1], query[1]))
    return (support[0], made[0]), (query[0], made[1])


def _looks(images: tf.Tensor) -> tf.Tensor:
    """What is compared, [n, H, W, 4]: mean YUV around a pixel, the luma's deviation."""
    window = max(3, min(images.shape[1:3]) // 16)
    colours = tf.image.rgb_to_yuv(tf.cast(images, tf.float32) / 255.0)
    both = tf.concat([colours, tf.square(colours[..., :1])], axis=-1)
    # The mean of a square is that of means along its sides, which is soon computed.
    rows = tf.nn.avg_pool2d(both, [1, window], 1, "SAME")
    mean = tf.nn.avg_pool2d(rows, [window, 1], 1, "SAME")
    variance = tf.maximum(mean[..., 3:] - tf.square(mean[..., :1]), 0.0)
    return tf.concat([mean[..., :3], tf.sqrt(variance)], axis=-1) * _WEIGHTS


def _distance(looks: tf.Tensor, sample: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.math.squared_difference(looks, sample), axis=-1)
