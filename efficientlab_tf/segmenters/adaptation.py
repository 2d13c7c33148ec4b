"""Adapting to one support set that a person gave, with a look at every step.

Unlike a meta-test this may find its own number of steps: a part of the support set
is held out, the inner loop is followed until its IoU on that part no longer improves
(`early_stopping`), and then repeated on the whole support set for as many steps.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from efficientlab_tf.metrics import confusion, predicted_masks
from efficientlab_tf.models import convert_to_classes, with_classes
from efficientlab_tf.segmenters.early_stopping import early_stopping
from efficientlab_tf.segmenters.forward import ForwardFunctions, Guided
from efficientlab_tf.segmenters.gradient import (
    AdaptFunctions,
    GradientAdapted,
    GradientSegmenter,
)
from efficientlab_tf.segmenters.network import Network, Weights

PATIENCE = 3
MAX_AUTO_STEPS = 200
HELD_OUT = 0.2
MAX_WATCHED = 64
"""Support pictures that statistics and IoU are computed of, at most."""


@dataclasses.dataclass(frozen=True)
class Step:
    """What is known after a step of the inner loop.

    Attributes:
      step: how many were taken.
      loss: the support loss before the last one; None after none.
      iou: the mean IoU of the pictures that are watched.
    """

    step: int
    loss: float | None
    iou: float


@dataclasses.dataclass(frozen=True)
class Search:
    """How the number of steps was found.

    Attributes:
      steps: j*, the best number.
      held_out: which support pictures were held out.
      trail: every step that was looked at; `iou` is that of the held-out pictures.
    """

    steps: int
    held_out: tuple[int, ...]
    trail: tuple[Step, ...]


@dataclasses.dataclass(frozen=True)
class Adaptation:
    """An inner loop on a whole support set.

    Attributes:
      adapted: the result.
      trail: every step; `iou` is that of (a part of) the support set.
    """

    adapted: GradientAdapted
    trail: tuple[Step, ...]


@dataclasses.dataclass(frozen=True)
class Practice:
    """An inner loop on what a person labelled.

    Attributes:
      functions: of the network. One without an inner loop takes no steps.
      weights: the initialization.
      learning_rate: of the inner loop; learned rates take its place.
      batch_norm: "support" or "running". The statistics of a support set of more
        than `MAX_WATCHED` pictures are those of as many, evenly spread.
      threshold: of the foreground probability of one class.
      seed: decides what is held out, mini-batches, augmentation and dropout.
    """

    functions: AdaptFunctions | ForwardFunctions
    weights: Weights
    learning_rate: float
    batch_norm: str
    threshold: float = 0.5
    seed: int = 0

    def adapt(
        self,
        images: np.ndarray,
        masks: np.ndarray,
        steps: int,
        on_step: Callable[[Step], None],
    ) -> Adaptation:
        """Takes `steps` steps on a support set.

        Args:
          images: uint8 [k, H, W, 3].
          masks: uint8 [k, H, W]; 0..K, 255 unknown.
          steps: at least 1.
          on_step: called with every step, also with none taken yet.
        """
        watched = spread(len(images), MAX_WATCHED)
        trail = []
        for adapted in self._walk(images, masks, steps):
            iou = self.iou(adapted, images[watched], masks[watched])
            trail.append(_step(len(trail), adapted, iou))
            on_step(trail[-1])
        return Adaptation(adapted, tuple(trail))

    def at(self, images: np.ndarray, masks: np.ndarray, steps: int) -> GradientAdapted:
        """What `adapt` comes to, without a look at every step."""
        segmenter = self._segmenter(steps)
        adapted = segmenter.adapt(images, masks, seed=self.seed)
        return self._with_statistics(adapted, images)

    def search(
        self,
        images: np.ndarray,
        masks: np.ndarray,
        held_out: Sequence[int],
        on_step: Callable[[Step], None],
    ) -> Search:
        """Finds the number of steps by early stopping on held-out pictures.

        Args:
          images: uint8 [k, H, W, 3].
          masks: uint8 [k, H, W]; 0..K, 255 unknown.
          held_out: from `held_out`.
          on_step: called with every step, also with none taken yet.
        """
        rest = np.setdiff1d(np.arange(len(images)), held_out)
        trail = []

        def score(adapted: GradientAdapted) -> float:
            iou = self.iou(adapted, images[held_out], masks[held_out])
            trail.append(_step(len(trail), adapted, iou))
            on_step(trail[-1])
            return iou

        walk = self._walk(images[rest], masks[rest], MAX_AUTO_STEPS)
        stop = early_stopping(walk, score, patience=PATIENCE)
        return Search(stop.steps, tuple(int(i) for i in held_out), tuple(trail))

    def iou(
        self, adapted: GradientAdapted, images: np.ndarray, masks: np.ndarray
    ) -> float:
        """Mean IoU of labelled pictures, see `present_iou`."""
        probabilities = adapted.predict(images)
        predicted = predicted_masks(probabilities, self.threshold)
        counts = confusion(masks, predicted, probabilities.shape[-1] - 1)
        return float(np.mean([mean_iou(c) for c in counts]))

    def _walk(
        self, images: np.ndarray, masks: np.ndarray, steps: int
    ) -> Iterator[GradientAdapted]:
        walk = self._segmenter(steps).walk(images, masks, seed=self.seed)
        for adapted in walk:
            yield self._with_statistics(adapted, images)

    def _segmenter(self, steps: int) -> GradientSegmenter:
        # Statistics of the support set are computed here, of a part of a large one.
        return self.functions.segmenter(
            self.weights,
            learning_rate=self.learning_rate,
            steps=steps,
            batch_norm="running",
        )

    def _with_statistics(
        self, adapted: GradientAdapted, images: np.ndarray
    ) -> GradientAdapted:
        if self.batch_norm != "support" or isinstance(adapted, Guided):
            return adapted
        seen = tf.convert_to_tensor(images[spread(len(images), MAX_WATCHED)])
        weights = self.functions.support_statistics(adapted.weights, seen)
        return dataclasses.replace(adapted, weights=weights)


def for_classes(
    network: Network, weights: Weights, classes: int
) -> tuple[Network, Weights]:
    """Gives a network, and what it learned, a head for another number of classes.

    See `models.heads`; learned rates of the head become those of its copies.

    Raises:
      UserError: the network's head is of a kind that is not known.
    """
    network.assign(weights)
    rates = weights.rates
    if rates:
        arrays = [rate.numpy() for rate in rates]
        arrays = convert_to_classes(arrays, network.model, classes)
        rates = tuple(map(tf.constant, arrays))
    network = Network(with_classes(network.model, classes))
    return network, network.weights()._replace(rates=rates)


def held_out(masks: np.ndarray, seed: int) -> list[int]:
    """Chooses pictures to hold out: a fifth, at least one, at most `MAX_WATCHED`.

    What remains keeps every class that the support set has.

    Args:
      masks: uint8 [k, H, W]; 0..K, 255 unknown.
      seed: of the choice.

    Returns:
      Sorted indices; [] if no picture can be spared.
    """
    held = [set(np.unique(mask).tolist()) - {0, 255} for mask in masks]
    left = {c: sum(c in classes for classes in held) for c in set().union(*held)}
    wanted = min(max(1, round(HELD_OUT * len(masks))), MAX_WATCHED, len(masks) - 1)
    chosen: list[int] = []
    for index in np.random.default_rng(seed).permutation(len(masks)).tolist():
        # A picture without any class would tell little about the object.
        if len(chosen) == wanted or not held[index]:
            continue
        if all(left[c] > 1 for c in held[index]):
            chosen.append(index)
            for c in held[index]:
                left[c] -= 1
    return sorted(chosen)


def spread(count: int, most: int) -> np.ndarray:
    """Returns at most `most` of `count` indices, evenly spread, in order."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(np.int64)


def present_iou(counts: np.ndarray) -> dict[int, float]:
    """IoU of each foreground class that truth or prediction holds.

    Args:
      counts: int [K+1, K+1] of one picture, see `metrics.confusion`.

    Returns:
      Class to IoU. Classes that are in neither are left out.
    """
    intersection = np.diagonal(counts)
    union = counts.sum(0) + counts.sum(1) - intersection
    return {
        c: float(intersection[c] / union[c]) for c in range(1, len(counts)) if union[c]
    }


def mean_iou(counts: np.ndarray) -> float:
    """Mean of `present_iou`; 1 if neither truth nor prediction hold any class.

    For one class it is the IoU of Hendryx et al., see `metrics`.
    """
    return float(np.mean(list(present_iou(counts).values()) or [1.0]))


def _step(number: int, adapted: GradientAdapted, iou: float) -> Step:
    losses = adapted.losses.numpy()
    return Step(number, float(losses[-1]) if len(losses) else None, iou)
