"""The inner loop: K steps of SGD on a support set, as one `tf.while_loop`.

    for k = 0..K-1:
        B_k       = mini-batch k of the support set, augmented
        theta_k+1 = theta_k - alpha * d L(theta_k; B_k) / d theta

(Hendryx et al., equation 5: theta_tr = U(theta; D_tr, omega).) Nothing here
assigns a variable: weights go in and come out, and every random choice is a
function of `seed` and k.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from efficientlab_tf.graphs import graph
from efficientlab_tf.losses import Objective
from efficientlab_tf.models import decoder_mask
from efficientlab_tf.segmenters.network import Network, Weights

Images = tf.Tensor | dict[str, tf.Tensor]
"""Images, or what a network's frozen part made of them."""

Augment = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]

# Salts that keep the random streams of one step apart.
_DROPOUT, _AUGMENT, _BATCHES = 1, 2, 3


class Batch(NamedTuple):
    """What one step sees: a function of the inner loop's seed and of k alone.

    Attributes:
      images: [n, H, W, 3], augmented; or what `Network.split`'s part made of them.
      masks: uint8 [n, H, W], augmented.
      seed: int32 [2], of the dropout masks.
    """

    images: Images
    masks: tf.Tensor
    seed: tf.Tensor


class StepResult(NamedTuple):
    """One evaluation of the loss and its gradient."""

    gradient: tuple[tf.Tensor, ...]
    statistics: tuple[tf.Tensor, ...]
    loss: tf.Tensor
    parts: dict[str, tf.Tensor]


class Trajectory(NamedTuple):
    """The path of an inner loop through K steps.

    Attributes:
      end: theta_K and the running averages after the last step.
      losses: float [K], the loss of each step, taken before its update.
      points: theta_0 to theta_K-1: for each tensor of theta a TensorArray of K entries;
        () if they were not recorded.
    """

    end: Weights
    losses: tf.Tensor
    points: tuple[tf.TensorArray, ...]


def fold_in(seed: tf.Tensor, salt) -> tf.Tensor:
    """Derives an independent seed, int32 [2], from a seed and an integer."""
    return tf.random.experimental.stateless_fold_in(seed, salt)


def minibatch_indices(
    count: tf.Tensor | int, batch: int, steps: tf.Tensor | int, seed: tf.Tensor
) -> tf.Tensor:
    """Draws mini-batches epoch by epoch from `count` examples.

    The examples are shuffled, read to the end, shuffled again, and so on, and
    the stream is cut into batches: as Reptile's authors and EfficientLab's do.
    A batch larger than the support set holds examples more than once.

    Args:
      count: number of examples.
      batch: batch size; 0 for `count`.
      steps: number of batches.
      seed: int32 [2].

    Returns:
      int32 [steps, batch].
    """
    batch = count if batch == 0 else batch
    epochs = (steps * batch + count - 1) // count
    noise = tf.random.stateless_uniform([epochs, count], seed)
    stream = tf.reshape(tf.argsort(noise, axis=-1), [-1])
    return tf.reshape(stream[: steps * batch], [steps, batch])


def sgd(theta, rates, gradient) -> tuple[tf.Tensor, ...]:
    """theta - rates * gradient; a rate is a scalar or a tensor like its parameter."""
    return tuple(
        t - rate * g for t, rate, g in zip(theta, rates, gradient, strict=True)
    )


def rates_of_step(rates, theta, k: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """The rates of step k, of learned or given ones (see `Weights.rates`).

    An inner loop that goes on for longer than its rates were learned for keeps
    the last step's.
    """

    def of_step(rate, parameter):
        if rate.shape.rank != parameter.shape.rank + 1:
            return rate
        return rate[tf.minimum(k, rate.shape[0] - 1)]

    return tuple(of_step(r, t) for r, t in zip(rates, theta, strict=True))


class InnerLoop:
    """SGD on a support set.

    Args:
      network: the pure network.
      objective: the loss.
      batch: examples per step; 0 for the whole support set.
      augment: called as augment(images, masks, seed) on every mini-batch.
      adapt: "all" of theta, or "decoder": the encoder stays at the initialization
        (ANIL, Raghu et al. 2020, with the whole decoder as its head).
      jit: whether XLA compiles a step: the network, the loss, their gradient and the
        update. What is drawn at random stays outside, so that it is the same.
    """

    def __init__(
        self,
        network: Network,
        objective: Objective,
        *,
        batch: int = 0,
        augment: Augment | None = None,
        adapt: str = "all",
        jit: bool = False,
    ):
        self.network = network
        self.adapted = (
            decoder_mask(network.model)
            if adapt == "decoder"
            else (True,) * len(network.decayed)
        )
        self.objective = objective
        self.batch = batch
        self.augment = augment
        self.jit = jit
        step = self._sgd_step
        self._step = graph(step, jit_compile=True) if jit else step

    def gradient(
        self, theta, statistics, images: Images, masks: tf.Tensor, seed: tf.Tensor
    ) -> StepResult:
        """Loss and gradient in training mode on one batch, not augmented.

        Args:
          theta: see `Weights`.
          statistics: see `Weights`.
          images: [n, H, W, 3], 0..255.
          masks: uint8 [n, H, W].
          seed: int32 [2].
        """
        drawn = self._drawn(images, seed)
        return self._gradient(theta, statistics, images, masks, drawn)

    def _drawn(self, images: Images, seed: tf.Tensor) -> tf.Tensor:
        return self.network.draw(fold_in(seed, _DROPOUT), images)

    def _gradient(self, theta, statistics, images, masks, drawn) -> StepResult:
        theta = tuple(theta)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(theta)
            logits, statistics = self.network(
                theta, statistics, images, training=True, seed=drawn
            )
            loss, parts = self.objective(logits, masks, theta, self.network.decayed)
        gradient = tape.gradient(
            loss, theta, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        return StepResult(tuple(gradient), statistics, loss, parts)

    def _sgd_step(self, theta, statistics, rates, images, masks, drawn):
        """Returns theta and the running averages after a step, and its loss."""
        step = self._gradient(theta, statistics, images, masks, drawn)
        return sgd(theta, rates, step.gradient), step.statistics, step.loss

    def rates(
        self, learning_rate: tf.Tensor | float | tuple[tf.Tensor, ...]
    ) -> tuple[tf.Tensor, ...]:
        """Returns alpha for each tensor of theta; 0 for what is not adapted.

        Args:
          learning_rate: one number, or a tuple as `Weights.rates`.
        """
        rates = learning_rate
        if not isinstance(rates, tuple):
            dtype = self.network.dtype
            # A plain number is read in the network's precision.
            rate = tf.convert_to_tensor(learning_rate, dtype_hint=dtype)
            rates = (tf.cast(rate, dtype),) * len(self.adapted)
        return tuple(
            rate if adapted else tf.zeros_like(rate)
            for rate, adapted in zip(rates, self.adapted, strict=True)
        )

    def batches(
        self,
        images: Images,
        masks: tf.Tensor,
        *,
        steps: tf.Tensor | int,
        seed: tf.Tensor,
    ) -> Callable[[tf.Tensor], Batch]:
        """Returns k -> the mini-batch of step k, the same whenever it is asked for.

        Args:
          images: uint8 [k, H, W, 3], the support set.
          masks: uint8 [k, H, W].
          steps: number of steps, may be a tensor.
          seed: int32 [2].
        """
        count = masks.shape[0] or tf.shape(masks)[0]
        indices = minibatch_indices(count, self.batch, steps, fold_in(seed, _BATCHES))

        def batch(k: tf.Tensor) -> Batch:
            batch_images = tf.nest.map_structure(
                lambda x: tf.gather(x, indices[k]), images
            )
            batch_masks = tf.gather(masks, indices[k])
            step_seed = fold_in(seed, k + 16)
            if self.augment is not None:
                batch_images, batch_masks = self.augment(
                    batch_images, batch_masks, fold_in(step_seed, _AUGMENT)
                )
            return Batch(batch_images, batch_masks, step_seed)

        return batch

    def adapt(
        self,
        theta,
        statistics,
        images: Images,
        masks: tf.Tensor,
        *,
        steps: tf.Tensor | int,
        learning_rate: tf.Tensor | float | tuple[tf.Tensor, ...],
        seed: tf.Tensor,
        first: tf.Tensor | int = 0,
        record: bool = False,
    ) -> Trajectory:
        """Takes SGD steps `first` to `steps` - 1 from theta.

        Taking some and then, from there, the rest is the same as taking all.

        Args:
          theta: see `Weights`.
          statistics: see `Weights`.
          images: uint8 [k, H, W, 3].
          masks: uint8 [k, H, W].
          steps: number of steps, may be a tensor; 0 returns what came in.
          learning_rate: alpha, a scalar, or a tuple as `Weights.rates`.
          seed: int32 [2].
          first: number of the first step, for an inner loop that goes on; theta and
            statistics are those that came out of the steps before.
          record: whether to keep every point on the way.
        """
        batch = self.batches(images, masks, steps=steps, seed=seed)
        rates = self.rates(learning_rate)
        count = steps - first
        losses = tf.TensorArray(self.network.dtype, count, element_shape=())
        points = ()
        if record:
            points = tuple(
                tf.TensorArray(t.dtype, count, element_shape=t.shape) for t in theta
            )

        def body(k, points, theta, statistics, losses):
            points = tuple(
                p.write(k - first, t) for p, t in zip(points, theta, strict=False)
            )
            now = rates_of_step(rates, theta, k)
            images, masks, seed = batch(k)
            drawn = self._drawn(images, seed)
            theta, statistics, loss = self._step(
                theta, statistics, now, images, masks, drawn
            )
            losses = losses.write(k - first, loss)
            return k + 1, points, theta, statistics, losses

        start = tf.convert_to_tensor(first)
        _, points, theta, statistics, losses = tf.while_loop(
            lambda k, *_: k < steps,
            body,
            (start, points, tuple(theta), tuple(statistics), losses),
            parallel_iterations=1,
        )
        return Trajectory(Weights(theta, statistics), losses.stack(), points)
