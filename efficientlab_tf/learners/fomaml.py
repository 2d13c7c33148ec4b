"""First-order MAML (Finn et al. 2017; Hendryx et al., equations 5, 6 and 9).

    theta_tr  = U(theta;    D_tr,  alpha)      K - 1 mini-batches of the support set
    theta_val = theta_tr - alpha * dL(theta_tr; D_val)/dtheta    one step on the tail
    theta    <- theta + eps * mean over tasks of (theta_val - theta_tr)

The displacement is -alpha times the gradient at the adapted weights. It is first-order:
nothing is differentiated twice.
"""

import tensorflow as tf

from efficientlab_tf.config import LearnerConfig
from efficientlab_tf.episode import Episode
from efficientlab_tf.errors import UserError
from efficientlab_tf.learners.base import GradientLearner, TaskUpdate
from efficientlab_tf.segmenters.inner_loop import fold_in
from efficientlab_tf.segmenters.network import Network, Weights

_TAIL = 1


class FOMAML(GradientLearner):
    """First-order MAML; the episode's query set is the tail, D_val.

    Raises:
      UserError: fewer than two inner steps.
    """

    metric_names = ("loss", "support_loss", "cross_entropy", "soft_iou")

    def __init__(self, network: Network, config: LearnerConfig, **options):
        if config.inner_steps < 2:
            raise UserError(
                f"`inner_steps` must be at least 2 for fomaml, received "
                f"{config.inner_steps}: its last step is the one on the tail"
            )
        super().__init__(network, config, **options)

    @property
    def training_passes(self) -> int:
        """The inner steps, the one on the tail among them."""
        return self.config.inner_steps

    @property
    def displacement_scale(self) -> float:
        """alpha: the displacement is -alpha times the first-order meta-gradient."""
        return self.config.inner_learning_rate

    def task_update(
        self,
        weights: Weights,
        episode: Episode,
        seed: tf.Tensor,
        step: tf.Tensor | int = 0,
    ) -> TaskUpdate:
        """See the module. Metrics: `loss` on the tail, `support_loss` at theta."""
        alpha = self.config.inner_learning_rate
        adapted, losses, _ = self.inner.adapt(
            weights.theta,
            weights.statistics,
            episode.support_images,
            episode.support_masks,
            steps=self.config.inner_steps - 1,
            learning_rate=alpha,
            seed=seed,
        )
        tail = self.inner.gradient(
            adapted.theta,
            adapted.statistics,
            episode.query_images,
            episode.query_masks,
            fold_in(seed, _TAIL),
        )
        return TaskUpdate(
            tuple(-alpha * g for g in tail.gradient),
            tail.statistics,
            {"loss": tail.loss, "support_loss": losses[0], **tail.parts},
        )
