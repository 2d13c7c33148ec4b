"""From judged candidates to what is used: weights, a last step, and a threshold.

Five pictures tell little of which candidate is best, and more of which are good. So
the mean of the best few is used; it is drawn to the pictures' edges where that was
better. Networks that solve in closed form count for half beside it, whatever their
score: they err elsewhere. The threshold moves only if that was better by `LEAST_GAIN`.
All of it was chosen on validation sets.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from PIL import Image

from efficientlab_tf.automatic.borders import refine
from efficientlab_tf.automatic.search import Judged
from efficientlab_tf.automatic.task import Task

MOST_MEMBERS = 4
THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
LEAST_GAIN = 0.01


@dataclasses.dataclass(frozen=True)
class Choice:
    """What is used.

    Attributes:
      candidates: whose mean is taken.
      beside: whose mean counts for half; () if none was judged.
      borders: whether the mean of `candidates` is drawn to the pictures' edges.
      threshold: of the foreground, for one class.
      scores: IoU of each judged entry, of candidates that did not see it.
      class_scores: the same for each class 1..K; nan where it is not shown.
    """

    candidates: tuple[Judged, ...]
    beside: tuple[Judged, ...]
    borders: bool
    threshold: float
    scores: tuple[float, ...]
    probabilities: tuple[np.ndarray, ...]

    @property
    def offset(self) -> float:
        """See `offset_of`."""
        return offset_of(self.threshold)


def offset_of(threshold: float) -> float:
    """What moves a threshold to 0.5 when it is added to log-odds."""
    return float(np.log1p(-threshold) - np.log(threshold))


def choose(task: Task, judged: Sequence[Judged], threshold: float | None) -> Choice:
    """Chooses among judged candidates.

    Args:
      task: the support set.
      judged: at least one that does not always take part.
      threshold: of the foreground; None finds one.
    """
    # A stable sort: of equal ones the earlier, cheaper one.
    best = [one for one in judged if not one.family.always]
    best = tuple(sorted(best, key=lambda one: -one.score)[:MOST_MEMBERS])
    beside = tuple(one for one in judged if one.family.always)
    plain = _mean(best)
    drawn = [
        _refined(_small(task, entry), p)
        for entry, p in zip(task.judged, plain, strict=True)
    ]

    def score(found: Sequence[np.ndarray], at: float) -> list[float]:
        pairs = zip(task.judged, found, strict=True)
        return [task.score(entry, p, at) for entry, p in pairs]

    at = 0.5 if threshold is None else threshold
    options = {False: plain, True: drawn}
    means = {which: np.mean(score(found, at)) for which, found in options.items()}
    borders = bool(means[True] > means[False])
    found = options[borders]
    if beside:
        found = [(p + b) / 2 for p, b in zip(found, _mean(beside), strict=True)]
    if threshold is None and task.classes == 1:
        tried = {t: np.mean(score(found, t)) for t in THRESHOLDS}
        better = max(tried, key=tried.get)
        if tried[better] > tried[at] + LEAST_GAIN:
            at = better
    return Choice(best, beside, borders, at, tuple(score(found, at)), tuple(found))


def _mean(candidates: Sequence[Judged]) -> list[np.ndarray]:
    """The mean of what candidates found in each judged entry, float32."""
    every = zip(*(one.probabilities for one in candidates), strict=True)
    return [np.mean([p.astype(np.float32) for p in same], axis=0) for same in every]


def _refined(image: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    return refine(tf.cast(image, tf.float32), tf.constant(probabilities)).numpy()


def _small(task: Task, entry: int) -> np.ndarray:
    """The picture of an entry at the size that it is judged at."""
    picture = task.pictures[task.entries[entry].picture]
    size = task.truth(entry).shape
    return np.asarray(Image.fromarray(picture).resize(size[::-1], Image.BILINEAR))
