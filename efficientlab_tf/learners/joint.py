"""Joint training on the examples of all tasks, the baseline of meta-learning.

    theta <- theta - eps * mean over tasks of dL(theta; D_support and D_query)/dtheta

There is no inner loop in training: the network learns to segment whatever is foreground
in some training class. With no inner step in meta-testing this is the
foreground-background baseline (Rakelly et al., section 5), which ignores the support
set. With inner steps it is the baseline of fine-tuning (Shaban et al., section 6, where
the last layers are fine-tuned, as with `adapt` "decoder").
"""

import tensorflow as tf

from efficientlab_tf.episode import Episode, pictures
from efficientlab_tf.learners.base import GradientLearner, TaskUpdate
from efficientlab_tf.segmenters.network import Weights


class Joint(GradientLearner):
    """Joint training; the meta-optimizer is its ordinary optimizer."""

    metric_names = ("loss", "cross_entropy", "soft_iou")

    def task_update(
        self,
        weights: Weights,
        episode: Episode,
        seed: tf.Tensor,
        step: tf.Tensor | int = 0,
    ) -> TaskUpdate:
        """See the module."""
        result = self.inner.gradient(
            weights.theta,
            weights.statistics,
            *pictures(episode),
            seed,
        )
        return TaskUpdate(
            tuple(-g for g in result.gradient),
            result.statistics,
            {"loss": result.loss, **result.parts},
        )
