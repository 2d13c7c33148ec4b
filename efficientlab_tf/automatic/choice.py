"""From judged candidates to what is used: weights, a last step, and a decision.

Five pictures tell little of which candidate is best, and more of which are good. So
the mean of the best few is used; it is drawn to the pictures' edges where that was
better. Networks that solve in closed form count for half beside it, whatever their
score: they err elsewhere; where nothing else was judged, they are all. For one class
the probabilities are calibrated on what was held out, and each picture gets its own
threshold, see `threshold`. All of it was chosen on validation sets.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from PIL import Image

from efficientlab_tf.automatic.borders import refine
from efficientlab_tf.automatic.search import Judged
from efficientlab_tf.automatic.task import Task
from efficientlab_tf.automatic.threshold import Decision

MOST_MEMBERS = 4


@dataclasses.dataclass(frozen=True)
class Choice:
    """What is used.

    Attributes:
      candidates: whose mean is taken; () if there are none but those beside.
      beside: whose mean counts for half; () if none was judged.
      borders: whether the mean of `candidates` is drawn to the pictures' edges.
      decision: what makes 0.5 the probability that decides.
      scores: IoU of each judged entry, of candidates that did not see it.
      probabilities: the same predictions, float32 [h, w, K+1] each.
    """

    candidates: tuple[Judged, ...]
    beside: tuple[Judged, ...]
    borders: bool
    decision: Decision
    scores: tuple[float, ...]
    probabilities: tuple[np.ndarray, ...]


def choose(task: Task, judged: Sequence[Judged], threshold: float | None) -> Choice:
    """Chooses among judged candidates.

    Args:
      task: the support set.
      judged: at least one.
      threshold: of the foreground; None finds one.
    """
    # A stable sort: of equal ones the earlier, cheaper one.
    best = [one for one in judged if not one.family.always]
    best = tuple(sorted(best, key=lambda one: -one.score)[:MOST_MEMBERS])
    beside = tuple(one for one in judged if one.family.always)

    def score(found: Sequence[np.ndarray]) -> list[float]:
        return list(map(task.score, task.judged, found))

    halves, borders = [], False
    if best:
        plain = _mean(best)
        pairs = zip(task.judged, plain, strict=True)
        drawn = [_refined(_small(task, entry), p) for entry, p in pairs]
        borders = bool(np.mean(score(drawn)) > np.mean(score(plain)))
        halves.append(drawn if borders else plain)
    if beside:
        halves.append(_mean(beside))
    found = [np.mean(both, axis=0) for both in zip(*halves, strict=True)]
    decision = Decision() if threshold is None else Decision.at(threshold)
    if threshold is None and task.classes == 1 and not task.is_sparse:
        truths = [task.truth(entry) for entry in task.judged]
        decision = Decision.learned([p[..., 1] for p in found], truths)
    found = [np.asarray(decision(p)) for p in found]
    return Choice(best, beside, borders, decision, tuple(score(found)), tuple(found))


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
