"""Trying candidates one after another, each judged by what it was not shown."""

import dataclasses
import time
from collections.abc import Callable, Hashable, Iterable

import numpy as np

from efficientlab_tf.automatic.family import Family, Probabilities
from efficientlab_tf.automatic.task import Task


@dataclasses.dataclass(frozen=True)
class Judged:
    """A candidate and what it predicted of pictures that it was not shown.

    Attributes:
      family: of the candidate.
      variant: which of the family.
      probabilities: of each entry of `Task.judged`, in that order.
      scores: IoU of each.
    """

    family: Family
    variant: Hashable
    probabilities: tuple[Probabilities, ...]
    scores: tuple[float, ...]

    @property
    def name(self) -> str:
        """The candidate in a few words."""
        return self.family.name(self.variant)

    @property
    def score(self) -> float:
        """The mean of `scores`."""
        return float(np.mean(self.scores))


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a search is.

    Attributes:
      name: the candidate that was just judged, the best of its family.
      score: its mean IoU on pictures that it was not shown.
      best: the best score so far.
      seconds_left: of the budget; infinite without one.
    """

    name: str
    score: float
    best: float
    seconds_left: float


def search(
    task: Task,
    families: Iterable[Callable[[], Family | None]],
    deadline: float,
    on_progress: Callable[[Progress], None],
) -> tuple[list[Judged], bool]:
    """Judges candidates until all are judged, time is up, or Ctrl-C is pressed.

    Args:
      task: the support set; it must have folds.
      families: make the candidates, cheap ones first; one may make none.
      deadline: of `time.monotonic`; at least one family is judged, whatever the time.
      on_progress: called after each family.

    Returns:
      The candidates that were judged on all folds, and whether the search ended for
      want of time.
    """
    judged: list[Judged] = []
    try:
        for make in families:
            if judged and time.monotonic() > deadline:
                return judged, True
            family = make()
            if family is None:
                continue
            own = _judge(task, family, deadline if judged else np.inf)
            if own is None:
                return judged, True
            judged += own
            if own:
                best = max(own, key=lambda one: one.score)
                left = deadline - time.monotonic()
                most = max(one.score for one in judged)
                on_progress(Progress(best.name, best.score, most, left))
    except KeyboardInterrupt:
        if not judged:
            raise
        return judged, True
    return judged, False


def _judge(task: Task, family: Family, deadline: float) -> list[Judged] | None:
    """Judges a family on all folds; None if the time does not suffice."""
    found: dict[Hashable, list[Probabilities]] = {v: [] for v in family.variants}
    start, done = time.monotonic(), 0
    for of_fold in family.held_out(task):
        found = {v: found[v] + of_fold[v] for v in found if v in of_fold}
        done += 1
        now = time.monotonic()
        # What one fold took, the others will, too.
        needed = (now - start) / done * (len(task.folds) - done)
        if done < len(task.folds) and now + needed > deadline:
            return None
    return [
        Judged(family, variant, tuple(own), tuple(map(task.score, task.judged, own)))
        for variant, own in found.items()
    ]
