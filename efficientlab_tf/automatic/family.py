"""What is tried: families of candidates that share most of their work."""

import abc
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from efficientlab_tf.automatic.task import Task

Probabilities = np.ndarray
"""float16 [h, w, K+1], at the size that an entry is judged at."""


class Member(abc.ABC):
    """What a family learned from all of a support set.

    Attributes:
      tensors: nested tuples of tensors: all that was learned.
      variables: that its graph uses beside them.
      about: what it is, in a few words.
    """

    tensors: Any
    variables: Sequence[tf.Variable]
    about: str

    @abc.abstractmethod
    def probabilities(self, tensors: Any, image: tf.Tensor) -> tf.Tensor:
        """Segments a picture, float32 [H, W, 3]: float32 [H, W, K+1].

        Args:
          tensors: `tensors`, or the same as inputs of a graph.
          image: of any size.
        """


class Family(abc.ABC):
    """Candidates that share most of their work.

    Attributes:
      variants: the candidates, by what tells them apart.
      always: whether its candidates take part whatever their score, beside the best of
        the others; see `choice`.
    """

    variants: tuple[Hashable, ...]
    always: bool = False

    @abc.abstractmethod
    def name(self, variant: Hashable) -> str:
        """A candidate in a few words."""

    @abc.abstractmethod
    def held_out(self, task: Task) -> Iterator[dict[Hashable, list[Probabilities]]]:
        """Yields for each fold what each candidate predicts of the fold's entries."""

    @abc.abstractmethod
    def fit(self, task: Task, weights: Mapping[Hashable, float]) -> Member:
        """Fits some candidates to all pictures; a member is their weighted mean."""
