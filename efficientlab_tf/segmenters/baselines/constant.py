"""The floors: what a method must beat to have learned anything.

AllForeground: p_1 = 1 everywhere, with K > 1 too
AllBackground: p_0 = 1 everywhere
"""

import dataclasses
from typing import ClassVar

import numpy as np

from efficientlab_tf.segmenters.baselines.support import check_queries, check_support
from efficientlab_tf.segmenters.segmenter import Adapted, Features, Segmenter, values_of


@dataclasses.dataclass(frozen=True)
class _Constant(Segmenter):
    label: ClassVar[int]
    live = True

    def adapt(
        self, images: np.ndarray | Features, masks: np.ndarray, *, seed: int = 0
    ) -> "ConstantAdapted":
        """Takes from a support set no more than K; see `Segmenter`."""
        _, masks, classes = check_support(values_of(images), masks)
        return ConstantAdapted(self.label, classes, masks.shape[1:])


class AllForeground(_Constant):
    """Calls every pixel an object of class 1."""

    label = 1


class AllBackground(_Constant):
    """Finds nothing."""

    label = 0


@dataclasses.dataclass(frozen=True)
class ConstantAdapted(Adapted):
    """One label for all pixels.

    Attributes:
      label: which.
      classes: K.
      image_size: H and W.
    """

    label: int
    classes: int
    image_size: tuple[int, int]

    def predict(self, images: np.ndarray | Features) -> np.ndarray:
        """See `Adapted`."""
        images = check_queries(values_of(images), self.image_size)
        result = np.zeros((*images.shape[:3], self.classes + 1), np.float32)
        result[..., self.label] = 1
        return result
