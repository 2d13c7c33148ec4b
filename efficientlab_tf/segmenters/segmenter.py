"""The question that every method answers: given a support set, segment a query.

    adapted = segmenter.adapt(support_images, support_masks)
    probabilities = adapted.predict(query_images)

All images of a segmenter have one size, its own; `api.model` takes any. What `read`
made of images before they were annotated, `adapt` and `predict` take in their place: a
person's click costs what depends on the click alone.
"""

import abc
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from efficientlab_tf.errors import UserError

BATCH_NORM_MODES = ("running", "support", "query")
"""Statistics that batch normalization predicts with: running averages, those of the
support set under the adapted weights, or those of the query batch (transductive)."""


class Diverged(UserError):
    """An adaptation whose loss is not finite, or grew without bound."""


class Features(NamedTuple):
    """What a segmenter read of images [n, ...]; where it reads nothing, the images."""

    values: Any


class Served(NamedTuple):
    """An adapted segmenter as a function for a graph that is exported.

    Attributes:
      tensors: nested tuples of tensors: all that was learned.
      probabilities: maps (tensors, images float [n, H, W, 3]) to probabilities
        [n, H, W, K+1]; it holds no other state but `variables`.
      about: the method in a few words.
      variables: variables that the function uses beside `tensors`.
    """

    tensors: Any
    probabilities: Callable[[Any, tf.Tensor], tf.Tensor]
    about: str
    variables: tuple = ()


class Adapted(abc.ABC):
    """A segmenter that has seen a support set. It never changes.

    Attributes:
      losses: the support loss before each step; empty without steps.
    """

    losses: Sequence[float] = ()

    @abc.abstractmethod
    def predict(self, images: np.ndarray | Features) -> np.ndarray:
        """Predicts class probabilities.

        Args:
          images: uint8 or float [n, H, W, 3], 0..255, or what `Segmenter.read` made of
            them.

        Returns:
          float32 [n, H, W, K+1]; channel 0 is the background.
        """

    def served(self) -> Served:
        """This segmenter as a function for an exported graph.

        Raises:
          UserError: it cannot be expressed as one.
        """
        raise UserError(
            f"{type(self).__name__} cannot be exported: it has no form as a graph; "
            "export a network or logistic_regression"
        )


class Segmenter(abc.ABC):
    """A few-shot segmentation method.

    Attributes:
      live: whether adapting is so fast that it can follow each click.
      needs_background: whether it tells a class from nothing but labelled background.
      steps: of the inner loop; 0 where there is none.
    """

    live: bool = False
    needs_background: bool = False
    steps: int = 0

    @abc.abstractmethod
    def adapt(
        self, images: np.ndarray | Features, masks: np.ndarray, *, seed: int = 0
    ) -> Adapted:
        """Learns from a support set.

        Args:
          images: uint8 [k, H, W, 3], 0..255, or what `read` made of them.
          masks: uint8 [k, H, W]; 0 background, 1..K classes, 255 unknown.
          seed: decides everything that is random in the method.
        """

    def for_task(self, name: str) -> "Segmenter":
        """Returns the method for a task of the class of this name (joined by "+").

        A method must not know it: only an oracle returns another than itself.
        """
        return self

    def walk(
        self, images: np.ndarray | Features, masks: np.ndarray, *, seed: int = 0
    ) -> Iterator[Adapted]:
        """Yields what `adapt` gives after 0, 1, 2, ... steps, up to `steps`."""
        yield self.adapt(images, masks, seed=seed)

    def read(self, images: np.ndarray) -> Features:
        """Does what can be done with images, uint8 [n, H, W, 3], without masks."""
        return Features(images)


def values_of(images: np.ndarray | Features) -> Any:
    """The images, or what was read of them, without the wrapping."""
    return images.values if isinstance(images, Features) else images


def spread(count: int, most: int) -> np.ndarray:
    """Returns at most `most` of `count` indices, evenly spread, in order."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)
