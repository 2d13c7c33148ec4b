"""The contract of a meta-learner: a pure function of its state.

    theta_i = task_update(theta; episode_i)        each task, on its own
    theta  <- meta_optimizer(theta, mean_i displacement_i)

A subclass is the few lines of one task's update; this module runs them over a
meta-batch, task after task, so that memory does not grow with the meta-batch.
"""

import abc
from typing import NamedTuple

import keras
import tensorflow as tf

from efficientlab_tf.config import LearnerConfig
from efficientlab_tf.episode import Episode
from efficientlab_tf.learners.differentiability import check_second_derivatives
from efficientlab_tf.learners.meta_optimizer import linear_annealing, meta_optimizer
from efficientlab_tf.losses import Objective
from efficientlab_tf.segmenters.inner_loop import Augment, InnerLoop, fold_in
from efficientlab_tf.segmenters.network import Network, Weights

# Salts of the random streams of an episode's augmentation.
_SUPPORT, _QUERY = 101, 102


class MetaState(NamedTuple):
    """Everything that meta-training carries from one meta-step to the next.

    Attributes:
      theta: tuple of float tensors, the initialization that is learned.
      statistics: tuple of float tensors, batch normalization's running
        averages: shared by all tasks and not reset between them.
      optimizer: tuple of tensors, the meta-optimizer's slots.
      rate_scale: float32 scalar, a factor on the scheduled meta-learning rate: the
        training loop halves it on plateaus.
      rates: the inner loop's learning rates where they are learned with theta, see
        `Weights`; else ().
    """

    theta: tuple[tf.Tensor, ...]
    statistics: tuple[tf.Tensor, ...]
    optimizer: tuple[tf.Tensor, ...]
    rate_scale: tf.Tensor
    rates: tuple[tf.Tensor, ...] = ()

    @property
    def weights(self) -> Weights:
        """The part that adaptation starts from."""
        return Weights(self.theta, self.statistics, self.rates)


class TaskUpdate(NamedTuple):
    """What one task asks of the initialization.

    Attributes:
      displacement: tuple of tensors like theta: where the task wants it to go.
      statistics: the running averages after the task.
      metrics: scalars by name, for logs; always those of `metric_names`.
      rates: the same for the learning rates; () where they are fixed.
    """

    displacement: tuple[tf.Tensor, ...]
    statistics: tuple[tf.Tensor, ...]
    metrics: dict[str, tf.Tensor]
    rates: tuple[tf.Tensor, ...] = ()


class Learner(abc.ABC):
    """A meta-learner.

    Args:
      network: the pure network.
      config: algorithm and inner loop.
      meta_steps: length of the run, for the annealing of the meta-learning rate.
      seed: decides, with the step and the task's place in the meta-batch, every
        random choice of `meta_step`.
      augment: called as augment(images, masks, seed) on inner-loop batches.
      augment_episodes: the same, called once on the support and once on the query
        set of each task in `meta_step`.
    """

    metric_names: tuple[str, ...]
    """Names of the metrics of `task_update`; "loss" is among them."""

    def __init__(
        self,
        network: Network,
        config: LearnerConfig,
        *,
        meta_steps: int,
        seed: int = 0,
        augment: Augment | None = None,
        augment_episodes: Augment | None = None,
    ):
        self.network = network
        self.config = config
        self.augment_episodes = augment_episodes
        self.inner = InnerLoop(
            network,
            Objective(config.loss, config.l2),
            batch=config.inner_batch,
            augment=augment,
            adapt=config.adapt,
        )
        self.schedule = linear_annealing(
            config.meta_learning_rate, config.meta_learning_rate_final, meta_steps
        )
        self._optimizer = meta_optimizer(
            config.meta_optimizer,
            self._meta_variables(),
            self.displacement_scale,
            config.momentum,
        )
        self._seed = seed
        self._checked = False

    @property
    def displacement_scale(self) -> float:
        """The displacement is minus this times the learner's meta-gradient."""
        return 1.0

    @property
    def second_order(self) -> bool:
        """Whether `task_update` differentiates a gradient."""
        return False

    @abc.abstractmethod
    def task_update(
        self,
        weights: Weights,
        episode: Episode,
        seed: tf.Tensor,
        step: tf.Tensor | int = 0,
    ) -> TaskUpdate:
        """Computes one task's update from the initialization; pure.

        Args:
          weights: the initialization.
          episode: one task.
          seed: int32 [2]; decides mini-batches, augmentation and dropout.
          step: the number of the meta-step, for learners that change with it.
        """

    def initial_weights(self) -> Weights:
        """Returns the initialization before the first meta-step: the model's."""
        return self.network.weights()

    def _meta_variables(self) -> list[keras.Variable]:
        """Variables like all that is meta-learned, for the meta-optimizer to copy."""
        variables = list(self.network.model.trainable_variables)
        rates = self.initial_weights().rates
        return variables + [
            keras.Variable(rate, dtype=variable.dtype, name=f"{variable.name}_rate")
            for variable, rate in zip(variables, rates, strict=False)
        ]

    def init(self) -> MetaState:
        """Returns the state before the first meta-step."""
        weights = self.initial_weights()
        return MetaState(
            weights.theta,
            weights.statistics,
            self._optimizer.init(),
            tf.constant(1.0),
            weights.rates,
        )

    def displacement(
        self, state: MetaState, episodes: Episode, step: tf.Tensor
    ) -> TaskUpdate:
        """Runs every task of a meta-batch from the same theta.

        Args:
          state: the learner's state.
          episodes: a meta-batch; every field has a leading axis of tasks.
          step: integer scalar, the number of the meta-step.

        Returns:
          The mean displacement and metrics over tasks, and the running averages
          after the last task.
        """
        tasks = episodes.support_images.shape[0] or tf.shape(episodes.support_images)[0]
        step_seed = fold_in(tf.constant([self._seed, 0]), tf.cast(step, tf.int32))

        def body(i, total, rates, statistics, metrics):
            # The name stays behind: strings do not belong on an accelerator.
            episode = Episode(*(field[i] for field in episodes[:4]), name=None)
            seed = fold_in(step_seed, i)
            update = self.task_update(
                state.weights._replace(statistics=statistics),
                self._augmented(episode, seed),
                seed,
                step,
            )
            total = tuple(
                t + d for t, d in zip(total, update.displacement, strict=True)
            )
            rates = tuple(r + d for r, d in zip(rates, update.rates, strict=True))
            metrics = tuple(
                m + update.metrics[name]
                for m, name in zip(metrics, self.metric_names, strict=True)
            )
            return i + 1, total, rates, update.statistics, metrics

        dtype = self.network.dtype
        _, total, rates, statistics, metrics = tf.while_loop(
            lambda i, *_: i < tasks,
            body,
            (
                tf.constant(0),
                tuple(tf.zeros_like(t) for t in state.theta),
                tuple(tf.zeros_like(r) for r in state.rates),
                state.statistics,
                tuple(tf.zeros([], dtype) for _ in self.metric_names),
            ),
            parallel_iterations=1,
        )
        count = tf.cast(tasks, dtype)
        return TaskUpdate(
            tuple(t / count for t in total),
            statistics,
            {
                name: m / count
                for name, m in zip(self.metric_names, metrics, strict=True)
            },
            tuple(r / count for r in rates),
        )

    def _augmented(self, episode: Episode, seed: tf.Tensor) -> Episode:
        if self.augment_episodes is None:
            return episode
        support = episode.support_images, episode.support_masks
        query = episode.query_images, episode.query_masks
        return Episode(
            *self.augment_episodes(*support, fold_in(seed, _SUPPORT)),
            *self.augment_episodes(*query, fold_in(seed, _QUERY)),
            name=None,
        )

    # Nothing here needs AutoGraph, which would wrap errors in its own.
    @tf.autograph.experimental.do_not_convert
    def meta_step(
        self, state: MetaState, episodes: Episode, step: tf.Tensor
    ) -> tuple[MetaState, dict[str, tf.Tensor]]:
        """One step of meta-training.

        Args:
          state: the learner's state.
          episodes: a meta-batch; every field has a leading axis of tasks.
          step: integer scalar, the number of the meta-step, from 0.

        Returns:
          The next state, and scalars to log: means over tasks, the meta-learning
          rate, the length of the step that theta took, and `bad_step`: 1 if a loss
          or anything in the next state was not finite, so that the state returned
          is the one that came in, else 0.

        Raises:
          UserError: at the first call of a second-order learner: a layer of the
            network has no right second derivative.
        """
        if self.second_order and not self._checked:
            check_second_derivatives(self.inner)
            self._checked = True
        update = self.displacement(state, episodes, step)
        rate = tf.cast(self.schedule(step), tf.float32) * state.rate_scale
        moved, slots = self._optimizer.apply(
            state.theta + state.rates,
            update.displacement + update.rates,
            state.optimizer,
            rate,
        )
        theta, rates = moved[: len(state.theta)], moved[len(state.theta) :]
        new = state._replace(
            theta=theta, statistics=update.statistics, optimizer=slots, rates=rates
        )
        finite = _all_finite((new, update.metrics))
        new = tf.nest.map_structure(lambda n, o: tf.where(finite, n, o), new, state)
        metrics = dict(update.metrics)
        metrics["bad_step"] = tf.where(finite, 0.0, 1.0)
        metrics["meta_learning_rate"] = rate
        metrics["meta_step_norm"] = tf.linalg.global_norm(
            [n - old for n, old in zip(new.theta, state.theta, strict=True)]
        )
        return new, metrics


def _all_finite(values) -> tf.Tensor:
    return tf.reduce_all(
        [
            tf.reduce_all(tf.math.is_finite(value))
            for value in tf.nest.flatten(values)
            if value.dtype.is_floating
        ]
    )
