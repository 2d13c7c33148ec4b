"""Reptile (Nichol and Schulman 2018; Hendryx et al., equations 7 and 8).

theta_both = U(theta; D_tr and D_val together, alpha)     K mini-batches
theta     <- theta + eps * mean over tasks of (theta_both - theta)
"""

import tensorflow as tf

from efficientlab_tf.episode import Episode
from efficientlab_tf.learners.base import Learner, TaskUpdate
from efficientlab_tf.learners.network import Weights


class Reptile(Learner):
    """Reptile; it draws its mini-batches from support and query together."""

    metric_names = ("loss", "support_loss")

    def task_update(
        self, weights: Weights, episode: Episode, seed: tf.Tensor
    ) -> TaskUpdate:
        """See the module. Metrics: `loss` of the last step, `support_loss` at theta."""
        adapted, losses = self.inner.adapt(
            weights.theta,
            weights.statistics,
            tf.concat([episode.support_images, episode.query_images], 0),
            tf.concat([episode.support_masks, episode.query_masks], 0),
            steps=self.config.inner_steps,
            learning_rate=self.config.inner_learning_rate,
            seed=seed,
        )
        return TaskUpdate(
            tuple(a - t for a, t in zip(adapted.theta, weights.theta, strict=True)),
            adapted.statistics,
            {"loss": losses[-1], "support_loss": losses[0]},
        )
