"""Adapting to one support set that a person gave, with a look at every step.

This may find its own number of steps: a part of the support set is held out, the inner
loop is followed until its IoU on that part no longer improves (`early_stopping`), and
then repeated on the whole support set for as many steps.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from efficientlab_tf.metrics import confusion, mean_iou, predicted_masks
from efficientlab_tf.segmenters.early_stopping import early_stopping
from efficientlab_tf.segmenters.segmenter import Adapted, Segmenter, spread

PATIENCE = 3
MAX_AUTO_STEPS = 200
HELD_OUT = 0.2
MAX_WATCHED = 64
"""Support pictures that IoU is computed of after each step, at most."""


@dataclasses.dataclass(frozen=True)
class Step:
    """What is known after a step of the inner loop.

    Attributes:
      step: how many were taken.
      loss: the support loss before the last one; None after none.
      iou: mean IoU of the support set (or a part), or of what is held out of it.
      searching: whether the number of steps is still being looked for.
    """

    step: int
    loss: float | None
    iou: float
    searching: bool = False


@dataclasses.dataclass(frozen=True)
class StepSearch:
    """How the number of steps was found.

    Attributes:
      steps: j*, the best number.
      held_out: which support pictures were held out.
      trail: every step that was looked at.
    """

    steps: int
    held_out: tuple[int, ...]
    trail: tuple[Step, ...]


OnStep = Callable[[Step], None]


def follow(
    segmenter: Segmenter,
    images: np.ndarray,
    masks: np.ndarray,
    *,
    seed: int,
    threshold: float,
    on_step: OnStep,
) -> tuple[Adapted, tuple[Step, ...]]:
    """Adapts and looks at every step.

    Args:
      segmenter: the method.
      images: uint8 [k, H, W, 3].
      masks: uint8 [k, H, W]; 0..K, 255 unknown.
      seed: see `Segmenter.adapt`.
      threshold: of the foreground probability of one class.
      on_step: called with every step, also with none taken yet.

    Returns:
      What `adapt` gives, and every step.
    """
    watched = spread(len(images), MAX_WATCHED)
    trail = []
    for adapted in segmenter.walk(images, masks, seed=seed):
        iou = _iou(adapted, images[watched], masks[watched], threshold)
        trail.append(_step(len(trail), adapted, iou))
        on_step(trail[-1])
    return adapted, tuple(trail)


def search_steps(
    segmenter: Segmenter,
    images: np.ndarray,
    masks: np.ndarray,
    held_out: Sequence[int],
    *,
    seed: int,
    threshold: float = 0.5,
    on_step: OnStep = lambda step: None,
) -> StepSearch:
    """Finds the number of steps by early stopping on held-out pictures.

    Args:
      segmenter: with `MAX_AUTO_STEPS` steps.
      images: uint8 [k, H, W, 3].
      masks: uint8 [k, H, W]; 0..K, 255 unknown.
      held_out: from `choose_held_out`.
      seed: see `follow`, as the others.
      threshold: see `follow`.
      on_step: see `follow`.
    """
    rest = np.setdiff1d(np.arange(len(images)), held_out)
    trail = []

    def score(adapted: Adapted) -> float:
        iou = _iou(adapted, images[held_out], masks[held_out], threshold)
        trail.append(_step(len(trail), adapted, iou, searching=True))
        on_step(trail[-1])
        return iou

    walk = segmenter.walk(images[rest], masks[rest], seed=seed)
    stop = early_stopping(walk, score, patience=PATIENCE)
    return StepSearch(stop.steps, tuple(int(i) for i in held_out), tuple(trail))


def choose_held_out(masks: np.ndarray, seed: int) -> list[int]:
    """Chooses pictures to hold out: a fifth, at least one, at most `MAX_WATCHED`.

    What remains keeps every class that masks, uint8 [k, H, W], have. Returns sorted
    indices; [] if no picture can be spared.
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


def _iou(
    adapted: Adapted, images: np.ndarray, masks: np.ndarray, threshold: float
) -> float:
    """Mean IoU of labelled pictures, see `metrics.present_iou`."""
    probabilities = adapted.predict(images)
    predicted = predicted_masks(probabilities, threshold)
    counts = confusion(masks, predicted, probabilities.shape[-1] - 1)
    return float(np.mean([mean_iou(c) for c in counts]))


def _step(number: int, adapted: Adapted, iou: float, searching: bool = False) -> Step:
    losses = adapted.losses
    return Step(number, float(losses[-1]) if len(losses) else None, iou, searching)
