"""Learning to segment in a forward pass (Shaban et al. 2017, section 4.3).

    logits = f(theta; D_support, query images)           a conditioned network
    theta <- theta - eps * mean over tasks of dL(logits, query masks)/dtheta

The network computes a guide from the support set, so a new task takes one forward pass
and no gradient. It is trained on episodes like those of meta-testing.
"""

from collections.abc import Callable

import tensorflow as tf

from efficientlab_tf.config import LearnerConfig
from efficientlab_tf.episode import Episode
from efficientlab_tf.errors import UserError
from efficientlab_tf.learners.base import Learner, TaskUpdate
from efficientlab_tf.models.conditioned import conditioning_mask, is_conditioned
from efficientlab_tf.models.frozen import split_frozen
from efficientlab_tf.segmenters.inner_loop import fold_in
from efficientlab_tf.segmenters.network import Network, Part, Weights

_PREPARED = 1
"""Salt of the random changes to prepared episodes."""


class Feedforward(Learner):
    """Trains a conditioned network on episodes.

    `conditioning_rate` is a factor on the meta-learning rate of the weights that see
    the support set alone, whatever the meta-optimizer.

    Raises:
      UserError: the network is not conditioned on a support set, `conditioning_rate` is
        not 1 though no weights see the support set alone, or `adapt` is not "all".
    """

    metric_names = ("loss", "cross_entropy", "soft_iou")

    def __init__(self, network: Network, config: LearnerConfig, **options):
        if not is_conditioned(network.model):
            raise UserError(
                f"`learner` {config.learner} needs a network that is conditioned on a "
                f"support set, such as oslsm, received {network.model.name}"
            )
        if config.adapt != "all":
            raise UserError(
                f"`adapt` must be all for {config.learner}, received {config.adapt}: "
                "it has no inner loop"
            )
        super().__init__(network, config, **options)
        if config.conditioning_rate != 1:
            self.rate_factors = tuple(
                config.conditioning_rate if conditioning else 1.0
                for conditioning in conditioning_mask(network.model)
            )

    def task_update(
        self,
        weights: Weights,
        episode: Episode,
        seed: tf.Tensor,
        step: tf.Tensor | int = 0,
    ) -> TaskUpdate:
        """See the module."""
        theta = tuple(weights.theta)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(theta)
            loss, metrics, statistics = self.loss(
                weights._replace(theta=theta), episode, seed
            )
        gradient = tape.gradient(
            loss, theta, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        return TaskUpdate(tuple(-g for g in gradient), statistics, metrics)

    def preparation(self) -> Callable[[tf.Tensor, Episode], Episode]:
        """Splits the network behind what training does not change.

        Returns:
          prepare(number, episode), which changes an episode at random as the number
          says and runs the frozen part. The outcome is an episode to train on, whose
          "query images" are what that part made, in half precision.

        Raises:
          UserError: no part of the network is frozen.
        """
        frozen, trained = split_frozen(self.network.model)
        run, self._trained = Part(self.network, frozen), Part(self.network, trained)
        weights = self.initial_weights()

        def prepare(number: tf.Tensor, episode: Episode) -> Episode:
            key = tf.constant([self._seed, _PREPARED])
            episode = self._augmented(episode, fold_in(key, tf.cast(number, tf.int32)))
            made, _ = run(weights, network_inputs(episode))
            made = {name: tf.cast(value, tf.float16) for name, value in made.items()}
            return Episode((), (), made, episode.query_masks, "")

        return prepare

    def _augmented(self, episode: Episode, seed: tf.Tensor) -> Episode:
        return episode if _is_prepared(episode) else super()._augmented(episode, seed)

    def _run(self, weights: Weights, episode: Episode, seed: tf.Tensor):
        """Logits of the queries, and the updated statistics."""
        if _is_prepared(episode):
            made = episode.query_images
            return self._trained(weights, made, training=True, seed=seed)
        return self.network(
            weights.theta,
            weights.statistics,
            network_inputs(episode),
            training=True,
            seed=seed,
        )

    def loss(
        self, weights: Weights, episode: Episode, seed: tf.Tensor
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor], tuple[tf.Tensor, ...]]:
        """Returns the loss of an episode, its metrics and the updated statistics."""
        logits, statistics = self._run(weights, episode, seed)
        loss, parts = self.objective(
            logits, episode.query_masks, weights.theta, self.network.decayed
        )
        return loss, {"loss": loss, **parts}, statistics


def _is_prepared(episode: Episode) -> bool:
    return isinstance(episode.query_images, dict)


def network_inputs(episode: Episode) -> dict[str, tf.Tensor]:
    """The inputs of a conditioned network, by name."""
    return {
        "support_images": episode.support_images,
        "support_masks": episode.support_masks,
        "query_images": episode.query_images,
    }
