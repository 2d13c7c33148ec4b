"""MAML with its exact meta-gradient, in memory that does not grow with a step's graph.

    theta_k+1 = theta_k - alpha * g_k,   g_k = dL(theta_k; B_k)/dtheta,   k = 0..K-1
    v_K       = dL(theta_K; query)/dtheta
    v_k       = v_k+1 - d/dtheta [ g_k . (alpha * v_k+1) ]          k = K-1..0
    theta    <- meta_optimizer(theta, mean over tasks of v_0)

(Finn et al. 2017, equation 1.) v_0 = d L(theta_K; query) / d theta_0: each
Jacobian d theta_k+1 / d theta_k = 1 - alpha H_k is symmetric in H_k, so its
transpose acts on v by one Hessian-vector product. Only theta_0..theta_K-1 are
kept; step k is computed again when the second loop comes back to it, from the
same mini-batch, augmentation and dropout masks. The unrolled inner loop is never
differentiated, so neither memory nor the graph grow with K.

K = `inner_steps` steps on the support set, then the query's gradient. FOMAML
counts the step on its tail among the inner steps, so MAML with `first_order` and
K steps goes the way of FOMAML with K + 1.
"""

from typing import NamedTuple

import tensorflow as tf

from efficientlab_tf.episode import Episode
from efficientlab_tf.learners.base import Learner, TaskUpdate
from efficientlab_tf.segmenters.inner_loop import fold_in, rates_of_step, sgd
from efficientlab_tf.segmenters.network import Weights

_QUERY = 1


class Trajectory(NamedTuple):
    """The way that the inner loop took.

    Attributes:
      points: theta_0..theta_K-1, one TensorArray for each tensor of theta.
      end: theta_K.
      statistics: the running averages after the last step.
      first_loss: the support loss at theta_0.
    """

    points: tuple[tf.TensorArray, ...]
    end: tuple[tf.Tensor, ...]
    statistics: tuple[tf.Tensor, ...]
    first_loss: tf.Tensor


class MAML(Learner):
    """Model-agnostic meta-learning; `first_order` drops the Hessians (v_0 = v_K).

    `second_order_from` drops them until that meta-step: derivative-order annealing
    (Antoniou et al. 2019, How to train your MAML, section 4). Until `multi_step_until`
    the query loss counts after every step, not only the last, as in the same paper:
    (1 - step / multi_step_until) / K for each of the first K - 1 and the rest for
    the last, so that v_k gains the gradient of its own query loss. With `inner_rates`
    "per_step" a rate for each layer (each tensor of theta) and inner step is learned
    with theta, again as there: alpha_k in the place of alpha, and
    dL(theta_K; query)/dalpha_k = - g_k . v_k+1, layer by layer.

    The displacement is minus the meta-gradient, so the meta-optimizer
    "interpolate" is plain SGD on it.
    """

    metric_names = ("loss", "support_loss", "cross_entropy", "soft_iou")

    @property
    def second_order(self) -> bool:
        """Whether the meta-gradient holds second derivatives."""
        return not self.config.first_order

    def task_update(
        self,
        weights: Weights,
        episode: Episode,
        seed: tf.Tensor,
        step: tf.Tensor | int = 0,
    ) -> TaskUpdate:
        """See the module. Metrics: `loss` on the query, `support_loss` at theta."""
        rates = self.rates(weights)
        batch = self.inner.batches(
            episode.support_images,
            episode.support_masks,
            steps=self.config.inner_steps,
            seed=seed,
        )
        trajectory = self._forward(weights, rates, batch)

        def on_query(theta, statistics):
            images, masks = episode.query_images, episode.query_masks
            return self.inner.gradient(
                theta, statistics, images, masks, fold_in(seed, _QUERY)
            )

        query = on_query(trajectory.end, trajectory.statistics)
        early = self._early_weight(step)
        last = 1.0 - (self.config.inner_steps - 1) * early
        gradient, rates_gradient = self._backward(
            trajectory,
            weights,
            rates,
            batch,
            tuple(last * g for g in query.gradient),
            lambda theta: tuple(
                early * g for g in on_query(theta, weights.statistics).gradient
            ),
            exact=tf.greater_equal(step, self.config.second_order_from),
        )
        return TaskUpdate(
            tuple(-g for g in gradient),
            query.statistics,
            {
                "loss": query.loss,
                "support_loss": trajectory.first_loss,
                "cross_entropy": query.parts["cross_entropy"],
                "soft_iou": query.parts.get("soft_iou", tf.zeros_like(query.loss)),
            },
            tuple(-g for g in rates_gradient),
        )

    def initial_weights(self) -> Weights:
        """The model's weights; with learned rates, all at `inner_learning_rate`."""
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

    def rates(self, weights: Weights) -> tuple[tf.Tensor, ...]:
        """alpha for each tensor of theta; see `Weights.rates`."""
        return self.inner.rates(weights.rates or self.config.inner_learning_rate)

    def _forward(self, weights: Weights, rates, batch) -> Trajectory:
        steps = self.config.inner_steps

        def body(k, points, theta, statistics, first_loss):
            points = tuple(p.write(k, t) for p, t in zip(points, theta, strict=True))
            step = self.inner.gradient(theta, statistics, *batch(k))
            first_loss = tf.where(k == 0, step.loss, first_loss)
            theta = sgd(theta, rates_of_step(rates, theta, k), step.gradient)
            return k + 1, points, theta, step.statistics, first_loss

        points = tuple(
            tf.TensorArray(t.dtype, steps, element_shape=t.shape) for t in weights.theta
        )
        zero = tf.zeros([], self.network.dtype)
        _, *trajectory = tf.while_loop(
            lambda k, *_: k < steps,
            body,
            (tf.constant(0), points, weights.theta, weights.statistics, zero),
            parallel_iterations=1,
        )
        return Trajectory(*trajectory)

    def _early_weight(self, step) -> tf.Tensor:
        """The weight of the query loss after each inner step but the last."""
        dtype = self.network.dtype
        until = self.config.multi_step_until
        if not until:
            return tf.zeros([], dtype)
        left = 1.0 - tf.cast(step, dtype) / until
        return tf.maximum(left, 0.0) / self.config.inner_steps

    def _backward(
        self, trajectory: Trajectory, weights, rates, batch, v, early_gradient, exact
    ):
        """Returns v_0, and the gradient of the rates: () if none are learned.

        `early_gradient` maps theta_k, 0 < k < K, to what its own query loss adds to
        v_k. Where `exact` is false the Hessians are left out.
        """
        learns_rates = bool(weights.rates)
        multi_step = self.config.multi_step_until > 0
        if not (self.second_order or learns_rates or multi_step):
            return v, ()

        def body(k, v, rates_gradient):
            theta = tuple(points.read(k) for points in trajectory.points)
            alpha = rates_of_step(rates, theta, k)
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(theta)
                # Outputs in training mode do not depend on the running averages,
                # so those that entered step k are not needed again.
                step = self.inner.gradient(theta, weights.statistics, *batch(k))
                product = tf.add_n(
                    [
                        tf.reduce_sum(g * tf.stop_gradient(rate * u))
                        for g, rate, u in zip(step.gradient, alpha, v, strict=True)
                    ]
                )
            if learns_rates:
                rates_gradient = tuple(
                    _less_product(r, g, u, k) if adapted else r
                    for r, g, u, adapted in zip(
                        *(rates_gradient, step.gradient, v, self.inner.adapted),
                        strict=True,
                    )
                )
            if self.second_order:
                products = tape.gradient(
                    product, theta, unconnected_gradients=tf.UnconnectedGradients.ZERO
                )
                v = tuple(
                    tf.where(exact, u - p, u) for u, p in zip(v, products, strict=True)
                )
            if multi_step:
                v = tf.cond(
                    k > 0,
                    lambda: tuple(
                        u + e for u, e in zip(v, early_gradient(theta), strict=True)
                    ),
                    lambda: v,
                )
            return k - 1, tuple(v), rates_gradient

        _, v, rates_gradient = tf.while_loop(
            lambda k, *_: (k >= 0) & (exact | learns_rates | multi_step),
            body,
            (
                tf.constant(self.config.inner_steps - 1),
                tuple(v),
                tuple(tf.zeros_like(r) for r in weights.rates),
            ),
            parallel_iterations=1,
        )
        return v, rates_gradient


def _less_product(total: tf.Tensor, g: tf.Tensor, u: tf.Tensor, k) -> tf.Tensor:
    """Adds -g_k o v_k+1 to a gradient of rates: of elements, or of steps."""
    if total.shape.rank == g.shape.rank:
        return total - g * u
    own = tf.reshape(-tf.reduce_sum(g * u), [1] * total.shape.rank)
    return tf.tensor_scatter_nd_add(total, [[k]], own)
