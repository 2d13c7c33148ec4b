"""The floors: what a method must beat to have learned anything.

AllForeground: p_1 = 1 everywhere, with K > 1 too
AllBackground: p_0 = 1 everywhere
"""

import dataclasses
from typing import ClassVar

import numpy as np

from efficientlab_tf.segmenters.baselines.support import check_queries, check_support


@dataclasses.dataclass(frozen=True)
class _Constant:
    label: ClassVar[int]

    def adapt(
        self, support_images: np.ndarray, support_masks: np.ndarray, *, seed: int = 0
    ) -> "ConstantAdapted":
        """Takes from a support set no more than K; see `Segmenter`.

        Raises:
          UserError: wrong shapes or types.
        """
        support = check_support(support_images, support_masks)
        return ConstantAdapted(self.label, support.classes, support.image_size)


class AllForeground(_Constant):
    """Calls every pixel an object of class 1."""

    label = 1


class AllBackground(_Constant):
    """Finds nothing."""

    label = 0


@dataclasses.dataclass(frozen=True)
class ConstantAdapted:
    """One label for all pixels.

    Attributes:
      label: which.
      classes: K.
      image_size: H and W.
    """

    label: int
    classes: int
    image_size: tuple[int, int]

    def predict(self, query_images: np.ndarray) -> np.ndarray:
        """Returns probabilities float32 [n, H, W, K+1]; see `Adapted`.

        Raises:
          UserError: queries of another shape or type than the support images.
        """
        images = check_queries(query_images, self.image_size)
        result = np.zeros((*images.shape[:3], self.classes + 1), np.float32)
        result[..., self.label] = 1
        return result
