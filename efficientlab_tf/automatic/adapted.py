"""What a search ended with: members, their weights, and what is done to their mean."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from efficientlab_tf.automatic.borders import refine
from efficientlab_tf.automatic.family import Member
from efficientlab_tf.segmenters.segmenter import Adapted, Features, Served, values_of


@dataclasses.dataclass(frozen=True)
class AutomaticAdapted(Adapted):
    """Members, and the weighted mean of what they find; for pictures of any size.

    Attributes:
      members: each a weighted sum of candidates; all weights together are 1.
      classes: K.
      offset: added to the log-odds of the foreground, so that its threshold is 0.5;
        0 for several classes.
      borders: whether the mean is drawn to the picture's edges, see `borders`.
    """

    members: tuple[Member, ...]
    classes: int
    offset: float = 0.0
    borders: bool = False

    def predict(self, images: np.ndarray | Features) -> np.ndarray:
        """See `Adapted`: images of one size, float32 [n, H, W, K+1]."""
        return np.stack([self.segment(image) for image in values_of(images)])

    def segment(self, image: np.ndarray) -> np.ndarray:
        """Class probabilities, float32 [H, W, K+1], of a picture uint8 [H, W, 3]."""
        # The parts are compiled; all of it in one graph would be compiled for each
        # support set anew.
        own = tuple(member.tensors for member in self.members)
        return self._graph(own, tf.cast(image, tf.float32)).numpy()

    def _graph(self, tensors: Any, image: tf.Tensor) -> tf.Tensor:
        found = tf.add_n(
            [
                member.probabilities(own, image)
                for member, own in zip(self.members, tensors, strict=True)
            ]
        )
        found = tf.ensure_shape(found, [None, None, self.classes + 1])
        return finish(image, found, self.offset, self.borders)

    def served(self) -> Served:
        """See `Adapted`; its function takes images of any size."""

        def probabilities(tensors: Any, images: tf.Tensor) -> tf.Tensor:
            shape = [None, None, self.classes + 1]
            return tf.map_fn(
                lambda image: self._graph(tensors, image),
                images,
                parallel_iterations=1,
                fn_output_signature=tf.TensorSpec(shape, tf.float32),
            )

        return Served(
            tuple(member.tensors for member in self.members),
            probabilities,
            "; ".join(member.about for member in self.members),
            tuple(v for member in self.members for v in member.variables),
        )


def finish(
    image: tf.Tensor, probabilities: tf.Tensor, offset: float, borders: bool
) -> tf.Tensor:
    """What is done to the mean of all members.

    Args:
      image: float32 [H, W, 3].
      probabilities: float32 [H, W, K+1].
      offset: see `AutomaticAdapted`.
      borders: see there.
    """
    if borders:
        probabilities = refine(image, probabilities)
    if not offset:
        return probabilities
    foreground = tf.clip_by_value(probabilities[..., 1], 1e-6, 1 - 1e-6)
    odds = tf.math.log(foreground) - tf.math.log1p(-foreground) + offset
    foreground = tf.sigmoid(odds)
    return tf.stack([1 - foreground, foreground], -1)
