"""Plain training on the examples of all tasks: what meta-learning is compared with.

    theta <- theta - eps * mean over tasks of dL(theta; D_support and D_query)/dtheta

No inner loop: the network learns to segment whatever is foreground in some training
class. With no step at meta-test time it is the foreground-background baseline
(Rakelly et al., section 5), which does not look at the support set; with steps, the
baseline of fine-tuning (Shaban et al., section 6: of the last layers, which is `adapt`
"decoder").
"""

import tensorflow as tf

from efficientlab_tf.episode import Episode
from efficientlab_tf.learners.base import GradientLearner, TaskUpdate
from efficientlab_tf.segmenters.network import Weights


class Joint(GradientLearner):
    """Joint training; `meta_optimizer` and `meta_learning_rate` are its optimizer's."""

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
            tf.concat([episode.support_images, episode.query_images], 0),
            tf.concat([episode.support_masks, episode.query_masks], 0),
            seed,
        )
        return TaskUpdate(
            tuple(-g for g in result.gradient),
            result.statistics,
            {
                "loss": result.loss,
                "cross_entropy": result.parts["cross_entropy"],
                "soft_iou": result.parts.get("soft_iou", tf.zeros_like(result.loss)),
            },
        )
