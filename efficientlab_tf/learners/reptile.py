"""Reptile (Nichol and Schulman 2018; Hendryx et al., equations 7 and 8).

    theta_both = U(theta; D_tr and D_val together, alpha)     K mini-batches
    theta     <- theta + eps * mean over tasks of (theta_both - theta)

The displacement is the whole way of the inner loop, and no gradient at its end.
"""

import tensorflow as tf

from efficientlab_tf.config import LearnerConfig
from efficientlab_tf.episode import Episode, pictures
from efficientlab_tf.errors import UserError
from efficientlab_tf.learners.base import GradientLearner, TaskUpdate
from efficientlab_tf.segmenters.network import Network, Weights


class Reptile(GradientLearner):
    """Reptile; it draws its mini-batches from support and query together.

    Raises:
      UserError: only a part of the network is to be adapted.
    """

    metric_names = ("loss", "support_loss")

    def __init__(self, network: Network, config: LearnerConfig, **options):
        if config.adapt != "all":
            raise UserError(
                f"`adapt` must be all for reptile, received {config.adapt}: it learns "
                "only what it adapts"
            )
        super().__init__(network, config, **options)

    @property
    def training_passes(self) -> int:
        """The inner steps."""
        return self.config.inner_steps

    def task_update(
        self,
        weights: Weights,
        episode: Episode,
        seed: tf.Tensor,
        step: tf.Tensor | int = 0,
    ) -> TaskUpdate:
        """See the module. Metrics: `loss` of the last step, `support_loss` at theta."""
        adapted, losses, _ = self.inner.adapt(
            weights.theta,
            weights.statistics,
            *pictures(episode),
            steps=self.config.inner_steps,
            learning_rate=self.config.inner_learning_rate,
            seed=seed,
        )
        return TaskUpdate(
            tuple(a - t for a, t in zip(adapted.theta, weights.theta, strict=True)),
            adapted.statistics,
            {"loss": losses[-1], "support_loss": losses[0]},
        )
