"""What a run is judged by while it trains."""

from efficientlab_tf.checkpoint.run import RunConfig
from efficientlab_tf.data.episodes import fixed_episodes
from efficientlab_tf.data.mixture import Mixture
from efficientlab_tf.evaluation.meta_test import Row, evaluate
from efficientlab_tf.learners import MetaState
from efficientlab_tf.segmenters.gradient import AdaptFunctions

_PICTURES = 6


class Validation:
    """Fixed validation episodes, evaluated with the training's inner loop.

    Args:
      config: the run's.
      mixture: the datasets; each gives its own validation classes.
      functions: the compiled adaptation of the run's network.
    """

    def __init__(self, config: RunConfig, mixture: Mixture, functions):
        self._config = config
        self._functions = functions
        self._has_steps = isinstance(functions, AdaptFunctions)
        data = config.data
        self._tasks = [
            task
            for manifest in mixture.manifests
            for task in fixed_episodes(
                manifest,
                manifest.split(data.val_split)[: config.train.val_episodes],
                shots=data.shots,
                queries=data.queries,
                splits_per_task=1,
                seed=config.train.seed,
                image_size=config.model.image_size,
                points=data.point_range,
                family=data.family,
                ways=data.ways,
            )
        ]

    def __call__(self, state: MetaState):
        """Returns results, one a class, and rows for `Summaries.predictions`.

        Raises:
          Diverged: an adaptation did.
        """
        learner = self._config.learner
        segmenter = self._functions.segmenter(
            state.weights,
            learning_rate=learner.inner_learning_rate,
            steps=learner.inner_steps,
            batch_norm=learner.batch_norm if self._has_steps else "running",
        )
        rows: list[Row] = []
        results = evaluate(
            segmenter,
            self._tasks,
            disjoint=not self._config.data.same_images,
            on_task=lambda result, row: rows.append(row),
        )
        return results, rows[:_PICTURES]
