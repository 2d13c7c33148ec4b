"""MAML with three options of "How to train your MAML" (Antoniou et al. 2019).

    v_K = w_K q(theta_K),                       q(theta) = dL(theta; query)/dtheta
    v_k = v_k+1 - d/dtheta [ g_k . (alpha_k * v_k+1) ] + w_k q(theta_k)   k = K-1..0
    dL/dalpha_k = - g_k . v_k+1                                      layer by layer

They can be combined, and MAML is what remains when all are off:

- `multi_step_until`: multi-step loss. Until this meta-step the query loss counts after
  each inner step: w_1 = ... = w_K-1 = (1 - step / multi_step_until) / K, and w_K is the
  rest of 1. (w_0 = 0. If off, w_K = 1.)
- `second_order_from`: derivative-order annealing. Until this meta-step the term with
  the second derivatives is left out of v_k.
- `inner_rates`: "per_step" learns a rate alpha_k for each layer (each tensor of theta)
  and inner step, together with theta.
"""

import tensorflow as tf

from efficientlab_tf.config import LearnerConfig
from efficientlab_tf.episode import Episode
from efficientlab_tf.learners.maml import MAML, minus, times
from efficientlab_tf.segmenters.inner_loop import rates_of_step
from efficientlab_tf.segmenters.network import Weights


def has_options(config: LearnerConfig) -> bool:
    """Whether one of the module's options is on."""
    return bool(
        config.multi_step_until
        or config.second_order_from
        or config.inner_rates == "per_step"
    )


class MAMLPlusPlus(MAML):
    """MAML with the options of the module.

    With `first_order` the term with the second derivatives is always left out.
    """

    def initial_weights(self) -> Weights:
        """The model's weights; learned rates all start at `inner_learning_rate`."""
        weights = super().initial_weights()
        if self.config.inner_rates == "fixed":
            return weights
        alpha, steps = self.config.inner_learning_rate, self.config.inner_steps
        return weights._replace(
            rates=tuple(
                tf.fill([steps] + [1] * t.shape.rank, tf.constant(alpha, t.dtype))
                for t in weights.theta
            )
        )

    def rate_gradient(self, k: tf.Tensor, g: tf.Tensor, v: tf.Tensor) -> tf.Tensor:
        """Returns what step k adds to the gradient of one tensor's rates.

        Args:
          k: number of the step, a scalar.
          g: that tensor's part of g_k.
          v: that tensor's part of v_k+1.

        Returns:
          A tensor like the rates, here [K, 1, ..., 1].
        """
        own_step = tf.one_hot(k, self.config.inner_steps, dtype=g.dtype)
        own_step = tf.reshape(own_step, [-1] + [1] * g.shape.rank)
        return -tf.reduce_sum(g * v) * own_step

    def backward(self, points, v, weights: Weights, episode: Episode, seed, step):
        """See the module and `MAML.backward`."""
        if self.config.multi_step_until:
            last = 1.0 - (self.config.inner_steps - 1) * self._early_weight(step)
            v = tuple(last * u for u in v)

        def recursion(second_order: bool):
            return self._recursion(
                points, v, weights, episode, seed, step, second_order
            )

        start = self.config.second_order_from
        if not (self.second_order and start):
            return recursion(self.second_order)
        return tf.cond(
            tf.greater_equal(step, start),
            lambda: recursion(second_order=True),
            lambda: recursion(second_order=False),
        )

    def _recursion(self, points, v, weights, episode, seed, step, second_order: bool):
        """v_0 and the gradient of the rates, with second derivatives or without."""
        total = tuple(tf.zeros_like(r) for r in weights.rates)
        multi_step = self.config.multi_step_until > 0
        if not (second_order or total or multi_step):
            return v, ()
        rates, batch = self.rates(weights), self.batches(episode, seed)

        def body(k, v, total):
            at_k = weights._replace(theta=tuple(p.read(k) for p in points))
            if second_order:
                alpha = rates_of_step(rates, at_k.theta, k)
                g, product = self.hessian_product(at_k, batch(k), times(alpha, v))
                next_v = minus(v, product)
            else:
                g = self.inner.gradient(*at_k[:2], *batch(k)).gradient
                next_v = v
            if total:
                total = tuple(
                    t + self.rate_gradient(k, *g_and_v) if adapted else t
                    for t, adapted, *g_and_v in zip(
                        total, self.inner.adapted, g, v, strict=True
                    )
                )
            if multi_step:
                early = self._early_gradient(k, at_k, episode, seed, step)
                next_v = tuple(u + e for u, e in zip(next_v, early, strict=True))
            return k - 1, next_v, total

        _, v, total = tf.while_loop(
            lambda k, *_: k >= 0,
            body,
            (tf.constant(self.config.inner_steps - 1), v, total),
            parallel_iterations=1,
        )
        return v, total

    def _early_weight(self, step) -> tf.Tensor:
        """w_1 = ... = w_K-1."""
        dtype = self.network.dtype
        left = 1.0 - tf.cast(step, dtype) / self.config.multi_step_until
        return tf.maximum(left, 0.0) / self.config.inner_steps

    def _early_gradient(self, k, at_k: Weights, episode, seed, step):
        """w_k q(theta_k), where w_0 = 0."""

        def gradient():
            weight = self._early_weight(step)
            q = self.on_query(at_k, episode, seed).gradient
            return tuple(weight * part for part in q)

        def zero():
            return tuple(tf.zeros_like(t) for t in at_k.theta)

        return tf.cond(k > 0, gradient, zero)
