"""Meta-SGD (Li et al. 2017): MAML that also learns how far each parameter steps.

    theta_k+1 = theta_k - alpha o g_k            alpha: one rate per element of theta
    v_k       = v_k+1 - d/dtheta [ g_k . (alpha o v_k+1) ]            as in MAML
    dL(theta_K; query)/dalpha = - sum_k g_k o v_k+1
    (theta, alpha) <- meta_optimizer((theta, alpha), mean over tasks of both gradients)

The rates start at `inner_learning_rate` (the authors draw them at random) and may
become negative: the sign is learned too.
"""

import tensorflow as tf

from efficientlab_tf.learners.maml_plus_plus import MAMLPlusPlus
from efficientlab_tf.segmenters.network import Weights


class MetaSGD(MAMLPlusPlus):
    """MAML with a learned learning rate for each element of theta.

    The recursion that sums the gradient of learned rates is that of MAML++, whose
    multi-step loss and annealing can be switched on here too. With `first_order` the
    Hessians are dropped from both gradients: v_k = v_K.
    """

    def initial_weights(self) -> Weights:
        """The model's weights, and every rate at `inner_learning_rate`."""
        weights = super().initial_weights()
        alpha = self.config.inner_learning_rate
        return weights._replace(
            rates=tuple(
                tf.fill(t.shape, tf.constant(alpha, t.dtype)) for t in weights.theta
            )
        )

    def rate_gradient(self, k: tf.Tensor, g: tf.Tensor, v: tf.Tensor) -> tf.Tensor:
        """Step k's part of the gradient of alpha, element by element: -g_k o v_k+1."""
        return -g * v
