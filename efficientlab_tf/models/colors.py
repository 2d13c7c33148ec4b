r"""Drawing one class's scores to a picture's own edges, as a layer.

    p_i  = sigma(z_i)                                  z: mean of the scores, in [-4, 4]
    repeat 3 times:
        h_1, h_0 = histograms of the pixels' colours, weighted by p and 1 - p, blurred,
                   at sum 1
        l_i      = log h_1(c_i) / h_0(c_i)                                    in [-3, 3]
        repeat 5 times:
            p_i  = sigma(z_i + l_i + g sum_n w_in (2 p_n - 1) / N)
    w_in = exp(-|c_i - c_n|^2 / 2 b) / |i - n|                         N = 16 neighbours

A network sees cells, not pixels: it knows where an object is, and hardly where it ends.
The colours of the picture know that. As in GrabCut (Rother et al., 2004) those of object
and background are learned from the picture itself; mean-field steps stand in the place
of a minimal cut. b is the mean of |c_i - c_n|^2 in the picture.
"""

import keras
import tensorflow as tf

_PACKAGE = "efficientlab_tf"
_BINS, _BLUR, _FLOOR = 16, 1.0, 1e-4
_SMOOTHNESS = 8.0
_ROUNDS, _STEPS = 3, 5
_MOST_SCORE, _MOST_COLOR = 4.0, 3.0
_REACH = 3
_NEIGHBOURS = tuple(
    (down * d, right * d)
    for d in (1, _REACH)
    for down, right in (
        (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, -1), (1, -1), (-1, 1)
    )
)  # fmt: skip


@keras.saving.register_keras_serializable(package=_PACKAGE)
class DrawToEdges(keras.layers.Layer):
    """Colour log-odds l and the score log p / (1 - p) at the end, [n, h, w, 2].

    Called on colours [n, h, w, 3], 0..1, and scores [n, h, w, S], whose mean is z. No
    gradient goes through it.
    """

    def call(self, inputs):
        colors, scores = (tf.stop_gradient(x) for x in inputs)
        prior = tf.reduce_mean(scores, axis=-1, keepdims=True)
        prior = tf.clip_by_value(prior, -_MOST_SCORE, _MOST_SCORE)
        bins = _bins(colors)
        near = _nearness(colors)
        score, odds = prior, tf.zeros_like(prior)
        for _ in range(_ROUNDS):
            odds = _color_log_odds(bins, tf.sigmoid(score))
            for _ in range(_STEPS):
                # 2 p - 1
                padded = _padded(tf.tanh(score / 2))
                message = tf.add_n(
                    [
                        w * _seen(padded, *n)
                        for n, w in zip(_NEIGHBOURS, near, strict=True)
                    ]
                )
                score = prior + odds + _SMOOTHNESS / len(near) * message
        return tf.stop_gradient(tf.concat([odds, score], axis=-1))

    def compute_output_shape(self, input_shape):
        return (*input_shape[0][:-1], 2)


def _bins(colors: tf.Tensor) -> tf.Tensor:
    """Numbers of colours, int32 [n, h, w]; each picture has its own."""
    bins = tf.cast(tf.clip_by_value(colors * _BINS, 0, _BINS - 1), tf.int32)
    bins = (bins[..., 0] * _BINS + bins[..., 1]) * _BINS + bins[..., 2]
    pictures = tf.range(tf.shape(bins)[0])[:, tf.newaxis, tf.newaxis]
    return bins + pictures * _BINS**3


def _color_log_odds(bins: tf.Tensor, p: tf.Tensor) -> tf.Tensor:
    """l of each pixel, [n, h, w, 1]."""
    both = tf.reshape(tf.concat([1 - p, p], axis=-1), [-1, 2])
    count = tf.shape(bins)[0] * _BINS**3
    sums = tf.math.unsorted_segment_sum(both, tf.reshape(bins, [-1]), count)
    cube = tf.reshape(sums, [-1, _BINS, _BINS, _BINS, 2])
    blur = _blur(p.dtype)
    for equation in ("iI,nIjkl->nijkl", "jJ,niJkl->nijkl", "kK,nijKl->nijkl"):
        cube = tf.einsum(equation, blur, cube)
    total = tf.reduce_sum(cube, axis=[1, 2, 3], keepdims=True)
    logs = tf.math.log(cube / tf.maximum(total, 1e-3) + _FLOOR / _BINS)
    odds = tf.clip_by_value(logs[..., 1] - logs[..., 0], -_MOST_COLOR, _MOST_COLOR)
    return tf.gather(tf.reshape(odds, [-1]), bins)[..., tf.newaxis]


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


def _nearness(colors: tf.Tensor) -> list[tf.Tensor]:
    """w_n of each of `_NEIGHBOURS`, [n, h, w, 1]."""
    padded = _padded(colors)
    distances = [
        tf.reduce_sum(tf.square(colors - _seen(padded, *n)), -1, keepdims=True)
        for n in _NEIGHBOURS
    ]
    # The first eight are those that touch.
    touching = tf.concat(distances[:8], axis=-1)
    scale = 2.0 * tf.reduce_mean(touching, axis=[1, 2, 3], keepdims=True) + 1e-6
    return [
        tf.exp(-distance / scale) / (2.0**0.5 if n[0] and n[1] else 1.0)
        for n, distance in zip(_NEIGHBOURS, distances, strict=True)
    ]


def _padded(values: tf.Tensor) -> tf.Tensor:
    """Mirrors [n, h, w, C] at its edges."""
    reach = [_REACH, _REACH]
    return tf.pad(values, [[0, 0], reach, reach, [0, 0]], "SYMMETRIC")


def _seen(padded: tf.Tensor, down: int, right: int) -> tf.Tensor:
    """What lies so many pixels away from each."""
    _, height, width, _ = padded.shape
    top, left = _REACH + down, _REACH + right
    return padded[
        :, top : top + height - 2 * _REACH, left : left + width - 2 * _REACH
    ]
