"""MAML (Finn et al. 2017, equation 1) with its exact meta-gradient.

    theta_k+1 = theta_k - alpha * g_k,   g_k = dL(theta_k; B_k)/dtheta,   k = 0..K-1
    v_K       = dL(theta_K; query)/dtheta
    v_k       = v_k+1 - d/dtheta [ g_k . (alpha * v_k+1) ]                k = K-1..0
    theta    <- meta_optimizer(theta, mean over tasks of v_0)

v_0 = d L(theta_K; query) / d theta_0: the transpose of the Jacobian d theta_k+1 / d
theta_k = 1 - alpha H_k maps v to v - H_k (alpha v), one Hessian-vector product. Only
theta_0..theta_K-1 are kept. The backward recursion computes g_k again, from the same
mini-batch, augmentation and dropout masks. The unrolled inner loop is never
differentiated, so neither the graph nor the activations in memory grow with K.

The inner loop takes K = `inner_steps` steps on the support set, and the query's
gradient follows. FOMAML counts its step on the query set among the inner steps, so that
MAML with `first_order` and K steps is FOMAML with K + 1.
"""

import tensorflow as tf

from efficientlab_tf.episode import Episode
from efficientlab_tf.graphs import untouched
from efficientlab_tf.learners.base import (
    Displacement,
    GradientLearner,
    MetaState,
    TaskUpdate,
)
from efficientlab_tf.learners.differentiability import check_second_derivatives
from efficientlab_tf.segmenters.inner_loop import StepResult, fold_in
from efficientlab_tf.segmenters.network import Weights

_QUERY = 1


class MAML(GradientLearner):
    """Model-agnostic meta-learning; with `first_order` v_0 = v_K.

    The displacement is minus the meta-gradient, so the meta-optimizer
    "interpolate" is plain SGD on it.
    """

    metric_names = ("loss", "support_loss", "cross_entropy", "soft_iou")
    _checked = False

    @property
    def second_order(self) -> bool:
        """Whether the meta-gradient holds second derivatives."""
        return not self.config.first_order

    @property
    def training_passes(self) -> int:
        """The inner steps and the pass on the query set."""
        return self.config.inner_steps + 1

    # As in `Learner`: AutoGraph would wrap errors in its own.
    @untouched
    def meta_step(
        self,
        state: MetaState,
        episodes: Episode,
        step: tf.Tensor,
        displacement: Displacement | None = None,
    ) -> tuple[MetaState, dict[str, tf.Tensor]]:
        """See `Learner.meta_step`.

        Raises:
          UserError: at the first call, if the meta-gradient holds second derivatives
            and a layer of the network has no right one.
        """
        if self.second_order and not self._checked:
            check_second_derivatives(self.inner)
            self._checked = True
        return super().meta_step(state, episodes, step, displacement)

    def task_update(
        self,
        weights: Weights,
        episode: Episode,
        seed: tf.Tensor,
        step: tf.Tensor | int = 0,
    ) -> TaskUpdate:
        """See the module. Metrics: `loss` on the query, `support_loss` at theta."""
        path = self.inner.adapt(
            weights.theta,
            weights.statistics,
            episode.support_images,
            episode.support_masks,
            steps=self.config.inner_steps,
            learning_rate=self.rates(weights),
            seed=seed,
            record=True,
        )
        query = self.on_query(path.end, episode, seed)
        v, rates_gradient = self.backward(
            path.points, query.gradient, weights, episode, seed, step
        )
        return TaskUpdate(
            tuple(-u for u in v),
            query.statistics,
            {"loss": query.loss, "support_loss": path.losses[0], **query.parts},
            tuple(-r for r in rates_gradient),
        )

    def rates(self, weights: Weights) -> tuple[tf.Tensor, ...]:
        """alpha for each tensor of theta: `inner_learning_rate`, or learned ones."""
        return self.inner.rates(weights.rates or self.config.inner_learning_rate)

    def batches(self, episode: Episode, seed: tf.Tensor):
        """Returns k -> B_k, the mini-batches that the inner loop saw."""
        return self.inner.batches(
            episode.support_images,
            episode.support_masks,
            steps=self.config.inner_steps,
            seed=seed,
        )

    def on_query(self, weights: Weights, episode: Episode, seed) -> StepResult:
        """Loss and gradient on the query set."""
        return self.inner.gradient(
            weights.theta,
            weights.statistics,
            episode.query_images,
            episode.query_masks,
            fold_in(seed, _QUERY),
        )

    def backward(
        self, points, v, weights: Weights, episode: Episode, seed, step
    ) -> tuple[tuple[tf.Tensor, ...], tuple[tf.Tensor, ...]]:
        """Goes back along the inner loop from v_K to v_0.

        Args:
          points: theta_0..theta_K-1, see `inner_loop.Trajectory`.
          v: the query's gradient at theta_K.
          weights: see `task_update`, and so for `episode`, `seed` and `step`.

        Returns:
          v_0, tensors like theta, and the gradient of learned rates, of which there are
          none here.
        """
        if not self.second_order:
            return v, ()
        alpha, batch = self.rates(weights), self.batches(episode, seed)

        def body(k, v):
            theta = tuple(p.read(k) for p in points)
            # In training mode no output depends on the running averages, so those
            # that entered step k are not needed again.
            at_k = weights._replace(theta=theta)
            _, product = self.hessian_product(at_k, batch(k), times(alpha, v))
            return k - 1, minus(v, product)

        _, v = tf.while_loop(
            lambda k, _: k >= 0,
            body,
            (tf.constant(self.config.inner_steps - 1), v),
            parallel_iterations=1,
        )
        return v, ()

    def hessian_product(self, weights: Weights, batch, u):
        """Returns g, the gradient on a batch, and d/dtheta [g . u] for a constant u.

        All three are tuples of tensors like theta. The derivative of g . u is the
        Hessian of the loss times u (Pearlmutter, 1994).
        """
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights.theta)
            g = self.inner.gradient(*weights[:2], *batch).gradient
        product = tape.gradient(
            g,
            weights.theta,
            output_gradients=u,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        return g, product


def times(a, b) -> tuple[tf.Tensor, ...]:
    """a * b, tensor by tensor."""
    return tuple(x * y for x, y in zip(a, b, strict=True))


def minus(a, b) -> tuple[tf.Tensor, ...]:
    """a - b, tensor by tensor."""
    return tuple(x - y for x, y in zip(a, b, strict=True))
