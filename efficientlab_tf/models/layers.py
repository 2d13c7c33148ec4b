"""Resizing and batch normalization with right second derivatives, and other layers.

MAML and Meta-SGD differentiate through an inner loop and need second derivatives, and
those of TensorFlow's own layers are wrong. `ResizeBilinearGrad` has no registered
gradient, so a second derivative silently loses every path through `tf.image.resize`.
`tf.nn.moments` stops the gradient of the mean inside the variance, which leaves the
first derivative right and the second wrong.
"""

import contextlib
import threading
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from efficientlab_tf.errors import UserError

_PACKAGE = "efficientlab_tf"


def interpolation_matrix(
    source: int, target: int, align_corners: bool = False
) -> np.ndarray:
    """The matrix of 1-D linear interpolation from `source` to `target` points.

    Args:
      source: number of input points.
      target: number of output points.
      align_corners: if true the first and last points of input and output
        coincide; if false the pixel centres are scaled about the border
        (half-pixel centres, as `tf.image.resize`).

    Returns:
      float64 [target, source]; each row sums to one.
    """
    position = np.arange(target, dtype=np.float64)
    if align_corners and target > 1:
        position *= (source - 1) / (target - 1)
    elif not align_corners:
        position = (position + 0.5) * source / target - 0.5
    position = np.clip(position, 0, source - 1)
    lower = np.floor(position).astype(int)
    upper = np.minimum(lower + 1, source - 1)
    matrix = np.zeros([target, source])
    rows = np.arange(target)
    np.add.at(matrix, (rows, lower), 1 - (position - lower))
    np.add.at(matrix, (rows, upper), position - lower)
    return matrix


@keras.saving.register_keras_serializable(package=_PACKAGE)
class Dropout(keras.layers.Dropout):
    """Keras's dropout, whose masks are the same under XLA, too.

    Of one seed TensorFlow and XLA draw the same bits, but make different floats of
    them. Here they are made as TensorFlow makes them: 1.m - 1 of the lower 23 bits m.
    """

    def call(self, inputs, training=False):
        """Sets a part of the inputs to 0, of any shape, and scales the others up."""
        if not training or self.rate == 0 or inputs.dtype != "float32":
            return super().call(inputs, training=training)
        sizes = tf.unstack(tf.shape(inputs))
        shape = [
            size if given is None else given
            for size, given in zip(
                sizes, self.noise_shape or [None] * len(sizes), strict=True
            )
        ]
        # As Keras: not negative, of which XLA draws other bits.
        seed = tf.math.floormod(self.seed_generator.next(), tf.int32.max - 1)
        seed = tf.cast(seed, tf.int32)
        limits = {"minval": None, "maxval": None, "dtype": tf.int32}
        bits = tf.random.stateless_uniform(shape, seed, **limits)
        bits = tf.bitwise.bitwise_or(tf.bitwise.bitwise_and(bits, 0x7FFFFF), 0x3F800000)
        kept = tf.bitcast(bits, tf.float32) - 1.0 >= self.rate
        scaled = inputs * tf.cast(1.0 / (1.0 - self.rate), tf.float32)
        return tf.where(kept, scaled, 0.0)


@keras.saving.register_keras_serializable(package=_PACKAGE)
class Resize(keras.layers.Layer):
    """Bilinear resize of [N, H, W, C] to a fixed height and width.

    Two products with interpolation matrices, so it is differentiable any number
    of times, compiles under XLA and works in float64. No antialiasing.

    Args:
      height: output height in pixels.
      width: output width in pixels.
      align_corners: see `interpolation_matrix`.
    """

    def __init__(self, height: int, width: int, align_corners: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.height = height
        self.width = width
        self.align_corners = align_corners

    def build(self, input_shape):
        _, height, width, _ = input_shape
        self._rows = interpolation_matrix(height, self.height, self.align_corners)
        self._columns = interpolation_matrix(width, self.width, self.align_corners)

    def call(self, inputs):
        rows = tf.constant(self._rows, inputs.dtype)
        columns = tf.constant(self._columns, inputs.dtype)
        resized = tf.einsum("hH,nHWc->nhWc", rows, inputs)
        return tf.einsum("wW,nhWc->nhwc", columns, resized)

    def get_config(self):
        return {
            **super().get_config(),
            "height": self.height,
            "width": self.width,
            "align_corners": self.align_corners,
        }


@keras.saving.register_keras_serializable(package=_PACKAGE)
class BackgroundLogit(keras.layers.Layer):
    """Prepends a constant channel, the logit of the background, to [N, H, W, K].

    Args:
      value: the logit.
    """

    def __init__(self, value: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        self.value = value

    def call(self, inputs):
        paddings = [[0, 0], [0, 0], [0, 0], [1, 0]]
        return tf.pad(inputs, paddings, constant_values=self.value)

    def get_config(self):
        return {**super().get_config(), "value": self.value}


class _Switch(threading.local):
    active = False
    momentum: float | None = None


_switch = _Switch()


@contextlib.contextmanager
def batch_statistics(momentum: float | None = None) -> Iterator[None]:
    """Makes `BatchNormalization` use batch statistics although `training=False`.

    Inside the context `BatchNormalization` normalizes with the statistics of the batch
    and updates its moving averages, whatever `training` is. Dropout and drop-connect
    stay off:

        with batch_statistics(momentum=0.0):
            _, stats = model.stateless_call(theta, stats, x, training=False)

    It acts while a `tf.function` is traced, not while it runs, and only in the current
    thread.

    Args:
      momentum: overrides the layers' momentum; 0 makes the returned moving
        averages exactly the statistics of this batch.
    """
    before = _switch.active, _switch.momentum
    _switch.active, _switch.momentum = True, momentum
    try:
        yield
    finally:
        _switch.active, _switch.momentum = before


@keras.saving.register_keras_serializable(package=_PACKAGE)
class BatchNormalization(keras.layers.BatchNormalization):
    """Batch normalization over all but the last axis, twice differentiable.

    The same variables, arguments and results as Keras's layer (epsilon 1e-3,
    momentum 0.99, biased variance in the moving averages), with the mean inside the
    variance differentiated too. No gradient flows through the moving averages. See
    also `batch_statistics`.

    Raises:
      UserError: `synchronized` or `renorm`, which this layer does not support.
    """

    def build(self, input_shape):
        if self.synchronized or getattr(self, "renorm", False):
            raise UserError(
                f"layer {self.name}: expected plain batch normalization, received "
                "synchronized=True or renorm=True; leave them out"
            )
        if self.axis not in (-1, len(input_shape) - 1):
            raise UserError(
                f"layer {self.name}: expected the channels on the last axis of "
                f"{input_shape}, received axis={self.axis}"
            )
        super().build(input_shape)

    def call(self, inputs, training=None):
        x = tf.cast(inputs, self.variable_dtype)
        ones, zeros = tf.ones(x.shape[-1:], x.dtype), tf.zeros(x.shape[-1:], x.dtype)
        gamma = tf.convert_to_tensor(self.gamma) if self.scale else ones
        beta = tf.convert_to_tensor(self.beta) if self.center else zeros
        if _switch.active or (training and self.trainable):
            normalize = _normalize_fused if _can_fuse(x) else _normalize
            y, mean, variance = normalize(x, gamma, beta, self.epsilon)
            momentum = self.momentum
            if _switch.active and _switch.momentum is not None:
                momentum = _switch.momentum
            for average, value in (
                (self.moving_mean, mean),
                (self.moving_variance, variance),
            ):
                value = tf.stop_gradient(value)
                average.assign(average * momentum + value * (1.0 - momentum))
        else:
            scale = gamma * tf.math.rsqrt(self.moving_variance + self.epsilon)
            y = x * scale + (beta - self.moving_mean * scale)
        return tf.cast(y, self.compute_dtype)


def _normalize(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns y = gamma (x - mean) / sqrt(variance + epsilon) + beta, mean, variance.

    Mean and (biased) variance are over all axes of `x` but the last.
    """
    axes = list(range(x.shape.rank - 1))
    mean = tf.reduce_mean(x, axes)
    variance = tf.reduce_mean(tf.square(x - mean), axes)
    scale = gamma * tf.math.rsqrt(variance + epsilon)
    return x * scale + (beta - mean * scale), mean, variance


def _can_fuse(x: tf.Tensor) -> bool:
    return x.shape.rank == 4 and x.dtype == tf.float32


def _normalize_fused(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """`_normalize` for float32 [N, H, W, C] in one kernel: same first two derivatives.

    It saves a tenth of a training step on a CPU. Only y may be differentiated.
    """
    y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x,
        scale=gamma,
        offset=beta,
        mean=tf.zeros([0]),
        variance=tf.zeros([0]),
        epsilon=epsilon,
        is_training=True,
    )
    # The kernel returns the unbiased variance, n / (n - 1) times the biased one.
    count = tf.cast(tf.size(x) // x.shape[-1], x.dtype)
    return y, mean, variance * ((count - 1) / count)
