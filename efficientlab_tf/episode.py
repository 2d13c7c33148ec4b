"""The noun that travels through the whole package: an episode."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from efficientlab_tf.errors import UserError

IGNORE = 255
"""Mask value of pixels whose label is unknown. No loss and no metric counts them."""


class Episode(NamedTuple):
    """One few-shot task: learn from the support set, be judged on the query set.

    A NamedTuple, so `tf.data`, `tf.function` and `tf.nest` carry it as it is.
    A meta-batch is an `Episode` whose every field has one more leading axis.

    Attributes:
      support_images: uint8 [k, H, W, 3], RGB in 0..255.
      support_masks: uint8 [k, H, W]; 0 background, 1..K classes, 255 unknown.
      query_images: uint8 [q, H, W, 3].
      query_masks: uint8 [q, H, W].
      name: string scalar; the class name (names joined by "+" if K > 1).
    """

    support_images: tf.Tensor
    support_masks: tf.Tensor
    query_images: tf.Tensor
    query_masks: tf.Tensor
    name: tf.Tensor


def pictures(episode: Episode) -> tuple:
    """All images and masks of an episode, the support set's first.

    Images may be what a network's frozen part made of them.
    """
    images = tf.nest.map_structure(
        lambda *pair: tf.concat(pair, 0), episode.support_images, episode.query_images
    )
    return images, tf.concat([episode.support_masks, episode.query_masks], 0)


def require_disjoint(episode: Episode, name: str) -> None:
    """Checks that no query image is also a support image, pixel for pixel.

    Args:
      episode: one task, of values and not of symbolic tensors.
      name: of the task, for the message.

    Raises:
      UserError: support and query overlap.
    """
    support = {np.asarray(image).tobytes() for image in episode.support_images}
    for i, image in enumerate(episode.query_images):
        if np.asarray(image).tobytes() in support:
            raise UserError(
                f"task {name}: expected a query set apart from its support, received "
                f"query image {i} that is also a support image; draw them without "
                "replacement, or remove the copies from the dataset"
            )
