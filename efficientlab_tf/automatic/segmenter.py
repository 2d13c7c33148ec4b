"""The automatic method as a segmenter: it looks for the best way, then goes it."""

import dataclasses
import time
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from efficientlab_tf.automatic.adapted import AutomaticAdapted
from efficientlab_tf.automatic.choice import Choice, choose
from efficientlab_tf.automatic.estimate import Estimate, estimate
from efficientlab_tf.automatic.family import Family, Member
from efficientlab_tf.automatic.search import Judged, Progress, search
from efficientlab_tf.automatic.task import Task
from efficientlab_tf.automatic.threshold import Decision
from efficientlab_tf.episode import IGNORE
from efficientlab_tf.segmenters.segmenter import Features, Segmenter, values_of


@dataclasses.dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
      adapted: the members, adapted to all pictures.
      task: the support set.
      judged: all candidates that were judged.
      choice: what was chosen of them; None if nothing could be kept aside to judge by,
        and the usual candidates are used.
      out_of_time: whether candidates were left out for want of time.
    """

    adapted: AutomaticAdapted
    task: Task
    judged: tuple[Judged, ...]
    choice: Choice | None
    out_of_time: bool

    @property
    def estimate(self) -> Estimate | None:
        """What to expect of new pictures.

        None if no picture could be kept aside, or labels are points alone.
        """
        if not self.choice or self.task.is_sparse:
            return None
        return estimate(self.choice.scores)


@dataclasses.dataclass(frozen=True)
class AutomaticSegmenter(Segmenter):
    """Chooses by cross-validation; see `choice`.

    Attributes:
      families: says what makes the candidates of a task, the most promising first.
      usual: makes what is used of a task of which nothing can be kept aside.
      budget: seconds that the search may take; infinite for all candidates.
    """

    families: Callable[[Task], Sequence[Callable[[], Family | None]]]
    usual: Callable[[Task], Sequence[Family]]
    budget: float = np.inf

    def adapt(
        self, images: np.ndarray | Features, masks: np.ndarray, *, seed: int = 0
    ) -> AutomaticAdapted:
        """See `Segmenter`; images and masks may also be sequences of any sizes."""
        return self.find(values_of(images), masks, seed=seed).adapted

    def find(
        self,
        images: Sequence[np.ndarray],
        masks: Sequence[np.ndarray],
        *,
        classes: int | None = None,
        threshold: float | None = None,
        seed: int = 0,
        deadline: float | None = None,
        on_progress: Callable[[Progress], None] = lambda progress: None,
    ) -> Found:
        """Searches, chooses, and adapts to all pictures.

        Args:
          images: uint8 [H, W, 3] each.
          masks: uint8 [H, W] each; 0..K, 255 unknown.
          classes: K; None takes it from the masks.
          threshold: of the foreground, for one class; None finds one.
          seed: of everything that is random.
          deadline: of `time.monotonic`, in the place of `budget`.
          on_progress: called as candidates are judged.
        """
        images, masks = [np.asarray(x) for x in images], [np.asarray(y) for y in masks]
        if classes is None:
            classes = max(int(y[y != IGNORE].max(initial=0)) for y in masks) or 1
        task = Task.of(images, masks, classes, seed)
        if deadline is None:
            deadline = time.monotonic() + self.budget
        if not task.folds:
            usual = [
                (family, dict.fromkeys(family.variants, 1.0))
                for family in self.usual(task)
            ]
            decision = Decision() if threshold is None else Decision.at(threshold)
            adapted = self._fit(task, usual, decision, True)
            return Found(adapted, task, (), None, False)
        families = self.families(task)
        judged, out_of_time = search(task, families, deadline, on_progress)
        choice = choose(task, judged, threshold)
        weights: dict[Family, dict] = {}
        for one in choice.candidates + choice.beside:
            weights.setdefault(one.family, {})[one.variant] = 1.0
        chosen = list(weights.items())
        adapted = self._fit(task, chosen, choice.decision, choice.borders)
        return Found(adapted, task, tuple(judged), choice, out_of_time)

    def _fit(
        self,
        task: Task,
        weights: Sequence[tuple[Family, dict[Hashable, float]]],
        decision: Decision,
        borders: bool,
    ) -> AutomaticAdapted:
        def fitted(always: bool) -> tuple[Member, ...]:
            chosen = [pair for pair in weights if pair[0].always == always]
            total = sum(sum(own.values()) for _, own in chosen)
            return tuple(
                family.fit(task, {variant: w / total for variant, w in own.items()})
                for family, own in chosen
            )

        both = fitted(False), fitted(True)
        return AutomaticAdapted(*both, task.classes, decision, borders)
