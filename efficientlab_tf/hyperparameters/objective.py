"""The score of a configuration: mean IoU over tasks, as a function of the steps.

    curve[j] = mean over tasks t of IoU(U_j(theta; support_t, omega); query_t)
    j*       = early_stopping(curve),    L = curve[j*]

The tasks take their steps side by side, and early stopping looks at their mean. That
is one j* for all of them, as the deployed update routine will have, and L is what it
really scores there. Were each task stopped on its own, the mean of their best scores
would belong to a routine that looks at the query masks to know when to stop. (The
paper's algorithm 1 leaves it open.) The memory is that of the tasks' adapted weights:
0.55 GB for 100 tasks of EfficientLab-B0.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from efficientlab_tf.checkpoint.run import RunConfig, build_inner_loop
from efficientlab_tf.checkpoint.tuned import adjust
from efficientlab_tf.data.episodes import fixed_episodes
from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.episode import require_disjoint
from efficientlab_tf.evaluation.meta_test import task_seed
from efficientlab_tf.hyperparameters.uho import STEPS, Range
from efficientlab_tf.metrics import confusion, image_iou, predicted_masks
from efficientlab_tf.segmenters.early_stopping import EarlyStop, early_stopping
from efficientlab_tf.segmenters.gradient import AdaptFunctions
from efficientlab_tf.segmenters.network import Network, Weights
from efficientlab_tf.segmenters.segmenter import Diverged


@dataclasses.dataclass(frozen=True)
class TuningTask:
    """One task: uint8 arrays, and the seed of its adaptation."""

    support_images: np.ndarray
    support_masks: np.ndarray
    query_images: np.ndarray
    query_masks: np.ndarray
    seed: int


def choose_tasks(names: Sequence[str], tasks: int, seed: int) -> dict[str, int]:
    """Chooses how many draws of each class to tune on, `tasks` in all.

    All classes get the same number; what then remains goes to a random sample. Classes
    without a draw are left out.
    """
    names = sorted(names)
    every, rest = divmod(tasks, len(names))
    more = set(np.random.default_rng(seed).permutation(len(names))[:rest].tolist())
    draws = {name: every + (i in more) for i, name in enumerate(names)}
    return {name: count for name, count in draws.items() if count}


def load_tasks(
    manifest: Manifest,
    draws: dict[str, int],
    *,
    shots: int,
    queries: int | None,
    seed: int,
    image_size: tuple[int, int],
) -> list[TuningTask]:
    """Reads the tasks: the same as `evaluate` meets for these classes and this seed.

    Args:
      manifest: see `fixed_episodes`, as the others.
      draws: see `choose_tasks`.
      shots: support examples.
      queries: query examples; None for the rest of the class.
      seed: of the draws and of the adaptation.
      image_size: (height, width) in pixels.

    Raises:
      UserError: a class with too few examples, or a damaged shard.
    """
    episodes = fixed_episodes(
        manifest,
        tuple(draws),
        shots=shots,
        queries=queries,
        splits_per_task=max(draws.values()),
        seed=seed,
        image_size=image_size,
    )
    tasks = []
    for episode, name, draw in episodes:
        if draw < draws[name]:
            require_disjoint(episode, name)
            arrays = (np.asarray(field) for field in episode[:4])
            tasks.append(TuningTask(*arrays, task_seed(name, draw, seed)))
    return tasks


class Objective:
    """Scores configurations of one initialization.

    Args:
      network: the network; its final dropout is changed if that is tuned.
      weights: the initialization.
      run: its configuration, which holds wherever a configuration says nothing.
      tasks: at least one.
      batch_norm: see `AdaptFunctions.predict`.
      jit: see `xla.use_jit`.
    """

    def __init__(
        self,
        network: Network,
        weights: Weights,
        run: RunConfig,
        tasks: Sequence[TuningTask],
        batch_norm: str,
        jit: str = "off",
    ):
        self._start = network, weights, run
        self._tasks = tasks
        self._batch_norm, self._jit = batch_norm, jit
        self._functions: AdaptFunctions | None = None
        self._compiled_for: tuple | None = None

    def __call__(
        self,
        values: dict[str, float],
        steps: Range,
        *,
        patience: int,
        on_step: Callable[[int, float], None] = lambda steps, score: None,
    ) -> EarlyStop:
        """Adapts to all tasks, until their mean IoU no longer improves.

        Args:
          values: hyperparameters by name; `STEPS` is not looked at.
          steps: bounds of early stopping.
          patience: see `early_stopping`.
          on_step: called with the number of steps taken and the mean IoU.
        """
        curve = self._curve(values, int(steps.high), on_step)
        least = int(steps.low)
        return early_stopping(curve, float, patience=patience, min_steps=least)

    def _curve(self, values, steps: int, on_step) -> Iterator[float]:
        values = {name: v for name, v in values.items() if name != STEPS}
        weights, run = adjust(values, *self._start)
        segmenter = self._compile(run).segmenter(
            weights,
            learning_rate=run.learner.inner_learning_rate,
            steps=steps,
            batch_norm=self._batch_norm,
        )
        walks = [
            segmenter.walk(task.support_images, task.support_masks, seed=task.seed)
            for task in self._tasks
        ]
        for step in range(steps + 1):
            score = 0.0
            if walks:
                try:
                    ious = [
                        _iou(task, next(walk).predict(task.query_images))
                        for task, walk in zip(self._tasks, walks, strict=True)
                    ]
                    score = float(np.mean(ious))
                except Diverged:
                    # As good as nothing, from here on.
                    walks = []
            on_step(step, score)
            yield score

    def _compile(self, run: RunConfig) -> AdaptFunctions:
        # The graph holds all but the learning rate and the number of steps.
        same = dataclasses.replace(run.learner, inner_learning_rate=1.0, inner_steps=1)
        key = same, run.model.final_dropout
        if self._functions is None or self._compiled_for != key:
            inner = build_inner_loop(run.learner, self._start[0], self._jit)
            self._functions, self._compiled_for = AdaptFunctions(inner), key
        return self._functions


def _iou(task: TuningTask, probabilities: np.ndarray) -> float:
    counts = confusion(task.query_masks, predicted_masks(probabilities), classes=1)
    return float(image_iou(counts).mean())
