"""Learning to segment in a forward pass (Shaban et al. 2017, section 4.3).

    logits = f(theta; D_support, query images)           a conditioned network
    theta <- theta - eps * mean over tasks of dL(logits, query masks)/dtheta

The network computes a guide from the support set, so a new task takes one forward pass
and no gradient. It is trained on episodes like those of meta-testing.
"""

import tensorflow as tf

from efficientlab_tf.config import LearnerConfig
from efficientlab_tf.episode import Episode
from efficientlab_tf.errors import UserError
from efficientlab_tf.learners.base import Learner, TaskUpdate
from efficientlab_tf.models.conditioned import conditioning_mask, is_conditioned
from efficientlab_tf.models.frozen import is_prepared
from efficientlab_tf.segmenters.network import Network, Weights


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

    def frozen_inputs(self, episode: Episode) -> tuple:
        """See `Learner`: one pass sees support and query."""
        return None, network_inputs(episode)

    def loss(
        self, weights: Weights, episode: Episode, seed: tf.Tensor
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor], tuple[tf.Tensor, ...]]:
        """Returns the loss of an episode, a float scalar, its metrics (scalars by the
        names of `metric_names`) and the updated running averages."""
        prepared = is_prepared(episode.query_images)
        logits, statistics = self.network(
            weights.theta,
            weights.statistics,
            episode.query_images if prepared else network_inputs(episode),
            training=True,
            seed=seed,
        )
        loss, parts = self.objective(
            logits, episode.query_masks, weights.theta, self.network.decayed
        )
        return loss, {"loss": loss, **parts}, statistics


def network_inputs(episode: Episode) -> dict[str, tf.Tensor]:
    """The inputs of a conditioned network, by name: those of the episode, uint8."""
    return {
        "support_images": episode.support_images,
        "support_masks": episode.support_masks,
        "query_images": episode.query_images,
    }
