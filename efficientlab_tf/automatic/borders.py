"""Drawing to a picture's own edges, at most at `MOST_SIDE`: see `models/colors.py`.

Whether it helps depends on the things: on photographs and icons it does, on cracks it
does not. So cross-validation decides.
"""

import functools
from collections.abc import Callable

import tensorflow as tf

from efficientlab_tf.graphs import graph
from efficientlab_tf.models.colors import LEAST_SIDE, draw

MOST_SIDE = 384
"""Longer side at which it is done, in pixels; larger pictures are reduced for it."""


def refine(image: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
    """Draws probabilities to a picture's edges.

    Args:
      image: float32 [H, W, 3], 0..255.
      probabilities: float32 [H, W, K+1].

    Returns:
      float32 [H, W, K+1].
    """
    return _compiled(probabilities.shape[-1])(image, probabilities)


@functools.cache
def _compiled(labels: int) -> Callable:
    """For pictures of any size, and so many labels."""
    shapes = [None, None, 3], [None, None, labels]
    signature = [*map(tf.TensorSpec, shapes)]
    return graph(_refine, input_signature=signature)


def _refine(image: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
    size = tf.shape(image)[:2]
    scale = tf.minimum(1.0, MOST_SIDE / tf.cast(tf.reduce_max(size), tf.float32))
    small = tf.cast(tf.round(tf.cast(size, tf.float32) * scale), tf.int32)
    small = tf.maximum(small, LEAST_SIDE)
    colors = tf.image.resize(image, small, antialias=True) / 255.0
    q, _ = draw(colors, tf.image.resize(probabilities, small, antialias=True))
    return tf.image.resize(q, size)
