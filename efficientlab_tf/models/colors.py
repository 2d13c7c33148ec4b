r"""Drawing what was found to a picture's own edges, by its colours.

    q_l <- p_l                                                      each pixel, label l
    repeat:  h_l(c)  = sum of q_l over the pixels of about colour c, at sum 1
             u_l     = log p_l + log h_l(c)
             repeat:   m_l = sum_n w_n q_l(n) / N,  q_l <- softmax_l(u_l + g m_l)
    w_n = exp(-|c - c_n|^2 / 2 b)        N neighbours n, 1 and 4 pixels away

A network sees cells, not pixels: it knows where an object is, and hardly where it ends.
The picture's colours know that. As in GrabCut (Rother et al., 2004) the colours of
object and background are learned from the picture itself, here as smoothed histograms,
and neighbours of like colour get like labels; b is the mean of |c - c_n|^2. In the
place of a minimal cut stand mean-field steps, which are sums and products, so that an
exported model takes them, too.
"""

from collections.abc import Callable

import keras
import tensorflow as tf

from efficientlab_tf.graphs import untouched

_PACKAGE = "efficientlab_tf"
_BINS, _BLUR, _FLOOR = 16, 1.0, 1e-4
_SMOOTHNESS = 8.0
_ROUNDS, _STEPS = 3, 4
_MOST_LOG_ODDS, _MOST_COLOR = 4.0, 3.0
_REACH = 4
_TOUCHING = ((0, 1), (0, -1), (1, 0), (-1, 0))
_NEIGHBOURS = tuple(
    (d * down, d * right) for d in (1, _REACH) for down, right in _TOUCHING
)
LEAST_SIDE = _REACH
"""Smaller pictures cannot be drawn to."""


def draw(colors: tf.Tensor, p: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws probabilities to a picture's edges.

    Args:
      colors: float32 or float64 [H, W, 3], 0..1; H and W at least `LEAST_SIDE`.
      p: [H, W, L], of each label.

    Returns:
      q, [H, W, L], and log h of each pixel's colour, [H, W, L], less that of the
      likeliest label.
    """
    prior = tf.math.log(tf.clip_by_value(p, 1e-6, 1.0))
    prior = tf.maximum(prior - tf.reduce_max(prior, -1, True), -_MOST_LOG_ODDS)
    bins = tf.cast(tf.minimum(colors * _BINS, _BINS - 1.0), tf.int32)
    bins = (bins[..., 0] * _BINS + bins[..., 1]) * _BINS + bins[..., 2]
    weights = [w * (_SMOOTHNESS / len(_NEIGHBOURS)) for w in _weights(colors)]
    whole = tf.add_n(weights)

    # Each label is a plane, [L, H, W]: three times as fast as labels side by side.
    def step(unary: tf.Tensor, q: tf.Tensor) -> tf.Tensor:
        around, padded = zip(_NEIGHBOURS, weights, strict=True), _padded(q[1:])
        message = tf.add_n([w * _seen(padded, *n) for n, w in around])
        # All labels of a pixel are 1 together, so the first needs no sum of its own.
        first = whole - tf.reduce_sum(message, 0, keepdims=True)
        unary += tf.concat([first, message], 0)
        q = tf.exp(unary - tf.reduce_max(unary, 0, keepdims=True))
        return q / tf.reduce_sum(q, 0, keepdims=True)

    def round_(q: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        odds = _color_log_odds(bins, tf.transpose(q, [1, 2, 0]))
        unary = tf.transpose(prior + odds, [2, 0, 1])
        (q,) = _repeated(_STEPS, lambda q: (step(unary, q),), q)
        return q, odds

    planes = tf.transpose(p, [2, 0, 1])
    q, odds = _repeated(_ROUNDS, round_, planes, tf.zeros_like(p))
    return tf.transpose(q, [1, 2, 0]), odds


@keras.saving.register_keras_serializable(package=_PACKAGE)
class DrawToEdges(keras.layers.Layer):
    """Colour log-odds and the log-odds at the end, [n, h, w, 2], of one class.

    Called on colours [n, h, w, 3], 0..1, and scores [n, h, w, S], whose mean is the
    log-odds to start from. No gradient goes through it.
    """

    def call(self, inputs):
        colors, scores = (tf.stop_gradient(x) for x in inputs)
        p = tf.sigmoid(tf.reduce_mean(scores, axis=-1, keepdims=True))
        p = tf.concat([1 - p, p], axis=-1)
        q, odds = tf.map_fn(untouched(lambda one: draw(*one)), (colors, p))
        score = tf.math.log(tf.clip_by_value(q, 1e-6, 1.0))
        both = tf.stack([odds, score], axis=-1)
        return tf.stop_gradient(both[..., 1, :] - both[..., 0, :])

    def compute_output_shape(self, input_shape):
        return (*input_shape[0][:-1], 2)


def _repeated(times: int, function: Callable, *state: tf.Tensor) -> tuple:
    """function(*...function(*state)), as a loop: the graph holds it once."""

    def body(i, *state):
        return i + 1, *function(*state)

    return tuple(tf.while_loop(lambda i, *_: i < times, body, [0, *state])[1:])


def _color_log_odds(bins: tf.Tensor, q: tf.Tensor) -> tf.Tensor:
    """log h_l of each pixel's colour, int32 [H, W], against the likeliest label's."""
    labels = q.shape[-1]
    sums = tf.math.unsorted_segment_sum(
        tf.reshape(q, [-1, labels]), tf.reshape(bins, [-1]), _BINS**3
    )
    cube = tf.reshape(sums, [_BINS, _BINS, _BINS, labels])
    blur = _blur(q.dtype)
    for equation in ("iI,Ijkl->ijkl", "jJ,iJkl->ijkl", "kK,ijKl->ijkl"):
        cube = tf.einsum(equation, blur, cube)
    total = tf.reduce_sum(cube, [0, 1, 2])
    flat = tf.reshape(cube / tf.maximum(total, 1e-3), [-1, labels])
    logs = tf.math.log(flat + _FLOOR / _BINS)
    logs = tf.maximum(logs - tf.reduce_max(logs, -1, True), -_MOST_COLOR)
    return tf.gather(logs, bins)


def _blur(dtype: tf.DType) -> tf.Tensor:
    """A Gaussian over bins, [bins, bins], that reflects at the ends."""
    places = tf.range(_BINS, dtype=dtype)

    def weights(of: tf.Tensor) -> tf.Tensor:
        distance = places[:, tf.newaxis] - of[tf.newaxis]
        return tf.exp(-0.5 * tf.square(distance / _BLUR))

    # What would fall beyond an end falls back inside.
    kernel = (
        weights(places) + weights(-1.0 - places) + weights(2.0 * _BINS - 1 - places)
    )
    return kernel / tf.reduce_sum(kernel, axis=0, keepdims=True)


def _weights(colors: tf.Tensor) -> list[tf.Tensor]:
    """w_n of each of `_NEIGHBOURS`, [H, W], of colours [H, W, 3]."""
    planes = tf.transpose(colors, [2, 0, 1])
    padded = _padded(planes)
    distances = [
        tf.reduce_sum(tf.square(planes - _seen(padded, *n)), 0) for n in _NEIGHBOURS
    ]
    scale = 2.0 * tf.reduce_mean(tf.stack(distances[: len(_TOUCHING)])) + 1e-6
    return [tf.exp(-distance / scale) for distance in distances]


def _padded(planes: tf.Tensor) -> tf.Tensor:
    """Mirrors [C, H, W] at its edges."""
    reach = [_REACH, _REACH]
    return tf.pad(planes, [[0, 0], reach, reach], "SYMMETRIC")


def _seen(padded: tf.Tensor, down: int, right: int) -> tf.Tensor:
    """What lies so many pixels away from each."""
    size = tf.shape(padded)[1:] - 2 * _REACH
    top, left = _REACH + down, _REACH + right
    return padded[:, top : top + size[0], left : left + size[1]]
