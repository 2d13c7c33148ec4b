"""Balanced logistic regression, solved by Newton's method, as layers of a network.

The formula is that of `closed_form`, whose w_S these layers solve for and apply.
"""

import keras
import tensorflow as tf

_PACKAGE = "efficientlab_tf"
_SHARPNESS = 4
"""Power of a label's share of a cell: cells on a border say little."""


@tf.custom_gradient
def _gram(x: tf.Tensor):
    """x' x, [D, D]. Its gradient is one product: TensorFlow's takes two."""

    def gradient(upstream):
        return x @ (upstream + tf.transpose(upstream))

    return tf.matmul(x, x, transpose_a=True), gradient


def solve(
    features: tf.Tensor,
    positive: tf.Tensor,
    negative: tf.Tensor,
    strength: tf.Tensor,
    steps: int,
) -> tf.Tensor:
    """Takes Newton steps of the logistic regression at the top, from w = 0.

    Args:
      features: X, float [m, D].
      positive: a, float [m, 1], not negative; not differentiated.
      negative: b, likewise. With a = b = 0 a row has no influence.
      strength: lambda, a positive scalar.
      steps: number of steps, at least 1.

    Returns:
      w, [D, 1].
    """
    total = positive + negative
    root = tf.sqrt(total)
    ridge = strength * tf.eye(features.shape[-1], dtype=features.dtype)
    w = tf.transpose(tf.zeros_like(features[:1]))
    for _ in range(steps):
        z = features @ w
        # sqrt(sigma(z) sigma(-z)); neither this nor its gradient can overflow.
        spread = tf.exp(0.5 * (tf.math.log_sigmoid(z) + tf.math.log_sigmoid(-z)))
        # Both factors alike: the product has no negative eigenvalue, however coarsely a
        # GPU multiplies (TF32), so the decomposition exists.
        hessian = _gram(features * (root * spread)) + ridge
        residual = positive - total * tf.sigmoid(z)
        slope = tf.matmul(features, residual, transpose_a=True) - strength * w
        w += tf.linalg.cholesky_solve(tf.linalg.cholesky(hessian), slope)
    return w


@keras.saving.register_keras_serializable(package=_PACKAGE)
class SolveClassifier(keras.layers.Layer):
    """w_S, [1, C + 1] with the bias last, of a support set.

    Called on features [k, h, w, C] and the positive and negative part of each cell's
    pixels, [k, h, w, 2] (`AnnotationMaps`). A cell counts as much with one known pixel
    as with all. With pixels of one label only w is finite and says that label; with
    none it is zero.

    Args:
      steps: Newton steps, at least 1.
    """

    def __init__(self, steps: int, **kwargs):
        super().__init__(**kwargs)
        self.steps = steps

    def build(self, input_shape):
        # lambda = 1 / (e m) is scikit-learn's C = e: it adds up cells, we average.
        weak = keras.initializers.Constant(-1.0)
        self.alpha = self.add_weight(shape=(), initializer=weak, name="alpha")
        self.beta = self.add_weight(shape=(), initializer="ones", name="beta")

    def call(self, inputs):
        features, maps = inputs
        x = tf.reshape(features, [-1, features.shape[-1]])
        x = tf.concat([x, tf.ones_like(x[:, :1])], axis=1)
        maps = tf.reshape(maps, [-1, 2])
        known = tf.reduce_sum(maps, axis=1, keepdims=True)
        parts = tf.math.divide_no_nan(maps, known) ** _SHARPNESS
        balanced = tf.math.divide_no_nan(parts, 2 * tf.reduce_sum(parts, axis=0))
        count = tf.reduce_sum(tf.cast(known > 0, x.dtype))
        strength = tf.exp(self.alpha - self.beta * tf.math.log(tf.maximum(count, 1)))
        w = solve(x, balanced[:, :1], balanced[:, 1:], strength, self.steps)
        return tf.transpose(w)

    def compute_output_shape(self, input_shape):
        return (None, input_shape[0][-1] + 1)

    def get_config(self):
        return {**super().get_config(), "steps": self.steps}


@keras.saving.register_keras_serializable(package=_PACKAGE)
class ScoreMap(keras.layers.Layer):
    """z_S, [q, h, w, 1], of the guide and features [q, h, w, C].

    Called on guides [n, D], the w_S of all sets behind each other: one for all queries,
    or as many as these.

    Args:
      first: place of w_S in the guide.
    """

    def __init__(self, first: int, **kwargs):
        super().__init__(**kwargs)
        self.first = first

    def call(self, inputs):
        guide, features = inputs
        _, height, width, channels = features.shape
        w = guide[:, self.first : self.first + channels, tf.newaxis]
        bias = guide[:, self.first + channels, tf.newaxis, tf.newaxis]
        scores = tf.reshape(features, [-1, height * width, channels]) @ w + bias
        return tf.reshape(scores, [-1, height, width, 1])

    def compute_output_shape(self, input_shape):
        return (*input_shape[1][:-1], 1)

    def get_config(self):
        return {**super().get_config(), "first": self.first}
