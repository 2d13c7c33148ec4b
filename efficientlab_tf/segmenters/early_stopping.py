"""Early stopping of an inner loop on held-out examples.

    j* = the number of steps after which the score was best, the search ending when
         it has not improved for `patience` steps

(Hendryx et al., appendix C, where the score is the mean IoU on D_test and the
patience 3.) So tuning finds its number of steps, and `adapt` on what it holds out.
"""

import dataclasses
from collections.abc import Callable, Iterable

from efficientlab_tf.segmenters.gradient import GradientAdapted


@dataclasses.dataclass(frozen=True)
class EarlyStop:
    """How an inner loop went.

    Attributes:
      steps: j*, the number of steps of the best score.
      score: the best score.
      scores: the score after 0, 1, 2, ... steps, to where the search ended.
    """

    steps: int
    score: float
    scores: tuple[float, ...]


def early_stopping(
    walk: Iterable[GradientAdapted],
    score: Callable[[GradientAdapted], float],
    *,
    patience: int = 3,
    min_steps: int = 1,
) -> EarlyStop:
    """Follows an inner loop until its score no longer improves.

    Args:
      walk: what the inner loop becomes after 0, 1, 2, ... steps
        (`GradientSegmenter.walk`); its end is the largest number of steps.
      score: the higher the better; NaN counts as worse than anything.
      patience: steps without improvement after which to stop, at least 1.
      min_steps: fewer steps than these are neither chosen nor the end.

    Returns:
      The best of all visited from `min_steps` on; the earliest of equals.

    Raises:
      ValueError: `walk` ended before `min_steps`.
    """
    best: EarlyStop | None = None
    scores: list[float] = []
    for steps, adapted in enumerate(walk):
        scores.append(value := score(adapted))
        if steps < min_steps:
            continue
        if best is None or value > best.score or best.score != best.score:
            best = EarlyStop(steps, value, ())
        elif steps - best.steps >= patience:
            break
    if best is None:
        raise ValueError(
            f"early stopping: expected at least {min_steps} steps, received "
            f"{len(scores) - 1}"
        )
    return dataclasses.replace(best, scores=tuple(scores))
