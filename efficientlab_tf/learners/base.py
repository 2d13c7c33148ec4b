"""The contract of a meta-learner: a pure function of its state.

    theta_i = task_update(theta; episode_i)        each task, on its own
    theta  <- meta_optimizer(theta, mean_i displacement_i)

A subclass defines the update of one task, and names its paper. This module runs it on
the tasks of a meta-batch one after another, so that memory does not grow with the
meta-batch.
"""

import abc
from collections.abc import Callable
from typing import NamedTuple

import keras
import tensorflow as tf

from efficientlab_tf.config import LearnerConfig
from efficientlab_tf.episode import Episode
from efficientlab_tf.graphs import untouched
from efficientlab_tf.learners.meta_optimizer import meta_optimizer
from efficientlab_tf.losses import Loss, Objective
from efficientlab_tf.models import decoder_mask
from efficientlab_tf.models.frozen import is_prepared
from efficientlab_tf.segmenters.inner_loop import Augment, InnerLoop, fold_in
from efficientlab_tf.segmenters.network import Network, Weights

# Salts of the random streams of an episode's augmentation.
_SUPPORT, _QUERY, _PREPARED = 101, 102, 103


class MetaState(NamedTuple):
    """The state of meta-training between two meta-steps.

    Attributes:
      theta: tuple of float tensors, the initialization that is learned.
      statistics: tuple of float tensors, the running averages of batch normalization;
        all tasks share them, and they are not reset between tasks.
      optimizer: tuple of tensors, the slots of the meta-optimizer.
      rate_scale: float32 scalar, a factor on the scheduled meta-learning rate, which
        the training loop halves on plateaus.
      rates: the learning rates of the inner loop if they are learned together with
        theta, see `Weights`; else ().
    """

    theta: tuple[tf.Tensor, ...]
    statistics: tuple[tf.Tensor, ...]
    optimizer: tuple[tf.Tensor, ...]
    rate_scale: tf.Tensor
    rates: tuple[tf.Tensor, ...] = ()

    @property
    def weights(self) -> Weights:
        """The initialization that adaptation starts from."""
        return Weights(self.theta, self.statistics, self.rates)


class TaskUpdate(NamedTuple):
    """The update that one task computes, or the sum or the mean over several.

    Attributes:
      displacement: tuple of tensors like theta, the way that theta should move.
      statistics: the running averages after the task.
      metrics: scalars to log by name, all those of `metric_names`.
      rates: the displacement of learned learning rates; () if they are fixed.
    """

    displacement: tuple[tf.Tensor, ...]
    statistics: tuple[tf.Tensor, ...]
    metrics: dict[str, tf.Tensor]
    rates: tuple[tf.Tensor, ...] = ()


Displacement = Callable[[MetaState, Episode, tf.Tensor], TaskUpdate]
"""Computes the mean update of a meta-batch, as `Learner.displacement` does."""


class Learner(abc.ABC):
    """A meta-learner.

    Args:
      network: the pure network.
      config: algorithm, loss and meta-optimizer.
      meta_steps: length of the run, for the annealing of the meta-learning rate.
      seed: of every random choice, together with the number of the meta-step and the
        task's position in the meta-batch.
      objective: a loss to use instead of the one that `config.loss` names, see
        `losses.Objective`.
      augment_episodes: called as augment(images, masks, seed), once on the support and
        once on the query set of each task in `meta_step`.

    Raises:
      UserError: no such meta-optimizer, or no declared decoder beside `encoder_rate`.
    """

    metric_names: tuple[str, ...]
    """Names of the metrics of `task_update`; "loss" is among them."""

    rate_factors: tuple[float, ...] = ()
    """Factor on the meta-learning rate of each tensor of theta; () for all 1."""

    training_passes: int = 1
    """How often a task's update changes the running averages."""

    def __init__(
        self,
        network: Network,
        config: LearnerConfig,
        *,
        meta_steps: int,
        seed: int = 0,
        objective: Loss | None = None,
        augment_episodes: Augment | None = None,
    ):
        self.network = network
        self.config = config
        self.augment_episodes = augment_episodes
        self.objective = Objective(objective or config.loss, config.l2)
        # Linear, as its power is 1.
        self.schedule = keras.optimizers.schedules.PolynomialDecay(
            config.meta_learning_rate, meta_steps, config.meta_learning_rate_final
        )
        self._optimizer = meta_optimizer(
            config.meta_optimizer,
            self._meta_variables(),
            self.displacement_scale,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
        self._seed = seed
        if config.encoder_rate != 1:
            self.rate_factors = tuple(
                1.0 if decoder else config.encoder_rate
                for decoder in decoder_mask(network.model)
            )

    @property
    def displacement_scale(self) -> float:
        """c, where the displacement is -c times the meta-gradient."""
        return 1.0

    @abc.abstractmethod
    def task_update(
        self,
        weights: Weights,
        episode: Episode,
        seed: tf.Tensor,
        step: tf.Tensor | int = 0,
    ) -> TaskUpdate:
        """Computes the update of one task, a pure function.

        Args:
          weights: the initialization.
          episode: one task: images uint8 [n, H, W, 3] and masks uint8 [n, H, W] (0..K,
            255 unknown) of support and query, or what `preparation` made of them.
          seed: int32 [2], of mini-batches, augmentation and dropout.
          step: the number of the meta-step, for learners that depend on it.

        Returns:
          The way that theta should move, of the shapes and dtypes of theta, and what
          else `TaskUpdate` says.
        """

    def initial_weights(self) -> Weights:
        """Returns the initialization before the first meta-step, that of the model."""
        return self.network.weights()

    def _meta_variables(self) -> list[keras.Variable]:
        """Variables of the shapes of all that is meta-learned: theta, then rates."""
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
        """Computes the mean update of a meta-batch; all tasks start from one theta.

        Args:
          state: the learner's state.
          episodes: a meta-batch; every field has a leading axis of tasks.
          step: integer scalar, the number of the meta-step.

        Returns:
          The mean displacement and metrics over tasks, and the running averages
          after the last task.
        """
        return self.mean(self.sum_of_tasks(state, episodes, step), _count(episodes))

    def mean(self, total: TaskUpdate, tasks: tf.Tensor | int) -> TaskUpdate:
        """Divides a sum over tasks, but for the running averages, by their number."""
        count = tf.cast(tasks, self.network.dtype)
        mean = tf.nest.map_structure(lambda t: t / count, total._replace(statistics=()))
        return mean._replace(statistics=total.statistics)

    def sum_of_tasks(
        self,
        state: MetaState,
        episodes: Episode,
        step: tf.Tensor,
        first: tf.Tensor | int = 0,
    ) -> TaskUpdate:
        """Computes the sum of the updates of some tasks of a meta-batch.

        Args:
          state: the learner's state.
          episodes: the tasks; every field has a leading axis of tasks.
          step: integer scalar, the number of the meta-step.
          first: int32, the position in the meta-batch of the first of `episodes`; a
            task's seed depends on its position.

        Returns:
          The sums of displacement and metrics over tasks, and the running averages
          after the last task.
        """
        tasks = _count(episodes)
        step_seed = fold_in(tf.constant([self._seed, 0]), tf.cast(step, tf.int32))

        def body(i, total, statistics):
            # The name stays behind: strings do not belong on an accelerator.
            fields = tf.nest.map_structure(lambda x: x[i], tuple(episodes[:4]))
            episode = Episode(*fields, name=None)
            seed = fold_in(step_seed, first + i)
            update = self.task_update(
                state.weights._replace(statistics=statistics),
                self._augmented(episode, seed),
                seed,
                step,
            )
            # The running averages pass from task to task, all else is added up.
            statistics, update = update.statistics, update._replace(statistics=())
            return i + 1, tf.nest.map_structure(tf.add, total, update), statistics

        zero = TaskUpdate(
            displacement=tuple(tf.zeros_like(t) for t in state.theta),
            statistics=(),
            metrics={n: tf.zeros([], self.network.dtype) for n in self.metric_names},
            rates=tuple(tf.zeros_like(r) for r in state.rates),
        )
        _, total, statistics = tf.while_loop(
            lambda i, *_: i < tasks,
            body,
            (tf.constant(0), zero, state.statistics),
            parallel_iterations=1,
        )
        return total._replace(statistics=statistics)

    def preparation(self) -> Callable[[tf.Tensor, Episode], Episode]:
        """Splits the network behind what training does not change.

        Returns:
          prepare(number, episode), which changes an episode at random as the number
          says and runs the frozen part. The outcome is an episode to train on, whose
          "images" are what that part made, in half precision.

        Raises:
          UserError: no part of the network is frozen.
        """
        run, weights = self.network.split(), self.initial_weights()

        def made(inputs):
            outputs, _ = run(weights, inputs)
            return {name: tf.cast(x, tf.float16) for name, x in outputs.items()}

        def prepare(number: tf.Tensor, episode: Episode) -> Episode:
            key = tf.constant([self._seed, _PREPARED])
            episode = self._augmented(episode, fold_in(key, tf.cast(number, tf.int32)))
            support, query = self.frozen_inputs(episode)
            return Episode(
                () if support is None else made(support),
                () if support is None else episode.support_masks,
                made(query),
                episode.query_masks,
                "",
            )

        return prepare

    def frozen_inputs(self, episode: Episode) -> tuple:
        """What the frozen part is run on for the support and for the query set."""
        return episode.support_images, episode.query_images

    def _augmented(self, episode: Episode, seed: tf.Tensor) -> Episode:
        if self.augment_episodes is None or is_prepared(episode.query_images):
            return episode
        support = episode.support_images, episode.support_masks
        query = episode.query_images, episode.query_masks
        return Episode(
            *self.augment_episodes(*support, fold_in(seed, _SUPPORT)),
            *self.augment_episodes(*query, fold_in(seed, _QUERY)),
            name=None,
        )

    # Nothing here needs AutoGraph, which would wrap errors in its own.
    @untouched
    def meta_step(
        self,
        state: MetaState,
        episodes: Episode,
        step: tf.Tensor,
        displacement: Displacement | None = None,
    ) -> tuple[MetaState, dict[str, tf.Tensor]]:
        """One step of meta-training.

        Args:
          state: the learner's state.
          episodes: a meta-batch; every field has a leading axis of tasks.
          step: integer scalar, the number of the meta-step, from 0.
          displacement: computes the mean update instead of `Learner.displacement`, on
            several devices for example; `episodes` are what it takes.

        Returns:
          The next state, and scalars to log: the means over tasks, the meta-learning
          rate, the length of the step that theta took, and `bad_step`. That is 1 if a
          loss or anything in the next state is not finite; the state that came in is
          then returned unchanged. Else it is 0.
        """
        update = (displacement or self.displacement)(state, episodes, step)
        rate = tf.cast(self.schedule(step), tf.float32) * state.rate_scale
        moved, slots = self._optimizer.apply(
            state.theta + state.rates,
            update.displacement + update.rates,
            state.optimizer,
            rate,
        )
        theta, rates = moved[: len(state.theta)], moved[len(state.theta) :]
        if self.rate_factors:
            # On the step, since some optimizers cancel a factor on the gradient.
            steps = zip(state.theta, theta, self.rate_factors, strict=True)
            theta = tuple(old + factor * (t - old) for old, t, factor in steps)
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


class GradientLearner(Learner):
    """A meta-learner of networks that adapt by gradients, in an inner loop.

    Args:
      network: see `Learner`.
      config: see `Learner`; also of the inner loop.
      augment: called as augment(images, masks, seed) on the mini-batches of the inner
        loop.
      **options: see `Learner`.
    """

    def __init__(
        self,
        network: Network,
        config: LearnerConfig,
        *,
        augment: Augment | None = None,
        **options,
    ):
        super().__init__(network, config, **options)
        self.inner = InnerLoop(
            network,
            self.objective,
            batch=config.inner_batch,
            augment=augment,
            adapt=config.adapt,
        )


def _count(episodes: Episode) -> tf.Tensor | int:
    """The number of tasks."""
    return episodes.query_masks.shape[0] or tf.shape(episodes.query_masks)[0]


def _all_finite(values) -> tf.Tensor:
    return tf.reduce_all(
        [
            tf.reduce_all(tf.math.is_finite(value))
            for value in tf.nest.flatten(values)
            if value.dtype.is_floating
        ]
    )
