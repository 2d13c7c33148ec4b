"""What a search ended with: members, their weights, and what is done to their mean.

    p = m                  m: weighted mean of the members, perhaps drawn to edges
    p = b                  b: weighted mean of the networks beside, alone
    p = m / 2 + b / 2      where there are both

What decides a pixel then is in `threshold`.
"""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from efficientlab_tf.automatic.borders import refine
from efficientlab_tf.automatic.family import Member
from efficientlab_tf.automatic.threshold import Decision
from efficientlab_tf.segmenters.segmenter import Adapted, Features, Served, values_of


@dataclasses.dataclass(frozen=True)
class AutomaticAdapted(Adapted):
    """Members, and the weighted mean of what they find; for pictures of any size.

    Attributes:
      members: each a weighted sum of candidates; all weights together are 1.
      beside: the same; what they find is drawn to edges already, and counts for half.
      classes: K.
      decision: what makes 0.5 the foreground probability that decides, for one class.
      borders: whether the mean of `members` is drawn to the picture's edges, see
        `borders`.
    """

    members: tuple[Member, ...]
    beside: tuple[Member, ...]
    classes: int
    decision: Decision = Decision()
    borders: bool = False

    def predict(self, images: np.ndarray | Features) -> np.ndarray:
        """See `Adapted`: images of one size, float32 [n, H, W, K+1]."""
        return np.stack([self.segment(image) for image in values_of(images)])

    def segment(self, image: np.ndarray) -> np.ndarray:
        """Class probabilities, float32 [H, W, K+1], of a picture uint8 [H, W, 3]."""
        # The parts are compiled; all of it in one graph would be compiled for each
        # support set anew.
        return self._graph(self._tensors, tf.cast(image, tf.float32)).numpy()

    @property
    def _every(self) -> tuple[Member, ...]:
        return self.members + self.beside

    @property
    def _tensors(self) -> tuple[Any, ...]:
        return tuple(member.tensors for member in self._every)

    def _graph(self, tensors: Any, image: tf.Tensor) -> tf.Tensor:
        every = [
            member.probabilities(own, image)
            for member, own in zip(self._every, tensors, strict=True)
        ]
        count, halves = len(self.members), []
        if self.members:
            found = tf.add_n(every[:count])
            found = tf.ensure_shape(found, [None, None, self.classes + 1])
            halves.append(refine(image, found) if self.borders else found)
        if self.beside:
            halves.append(tf.add_n(every[count:]))
        return self.decision(tf.add_n(halves) / len(halves))

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
            self._tensors,
            probabilities,
            "; ".join(member.about for member in self._every),
            tuple(v for member in self._every for v in member.variables),
        )
