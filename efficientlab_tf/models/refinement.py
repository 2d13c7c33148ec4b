"""The decoder of closed-form networks: score maps to one score at half resolution.

It sees how like the support's the cells of a picture are, how like each other they are,
and where edges are. The features that tell one object from another reach it only as
likeness of two cells of the same picture:

    e_i = W_s F_s(i) / |F_s(i)| of each stage s behind each other, and p times the place
    A   = softmax over j of -|e_i - e_j|^2
    v   = A tanh(z / 2)

v is the score of all cells that look like a cell and lie near it. (One step of mean
field inference in the fully connected model of Krähenbühl & Koltun 2011, with learned
features in place of colours.)
"""

import keras
import tensorflow as tf

from efficientlab_tf.models.layers import Resize

STAGES = (2, 3, 4, 6, 7)
"""Stages that the decoder needs."""

_PACKAGE = "efficientlab_tf"
_LIKENESS_STAGES = (3, 4, 6, 7)
_LOW_LEVEL = (3, 2)
"""Stages whose features the decoder sees for borders, coarse to fine."""
_EMBEDDING = 16
_WIDTHS = (32, 32, 16)
"""Channels at strides 8, 4 and 2."""


@keras.saving.register_keras_serializable(package=_PACKAGE)
class UnitFeatures(keras.layers.Layer):
    """Features [n, h, w, C] at unit length times a learned gain of each channel."""

    def build(self, input_shape):
        self.gamma = self.add_weight(
            shape=(input_shape[-1],), initializer="ones", name="gamma"
        )

    def call(self, inputs):
        return tf.math.l2_normalize(inputs, -1) * self.gamma

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable(package=_PACKAGE)
class Confidence(keras.layers.Layer):
    """tanh(z / 2): scores between -1 and 1, however easy a task is to separate."""

    def call(self, inputs):
        return tf.tanh(inputs / 2)

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable(package=_PACKAGE)
class Standardised(keras.layers.Layer):
    """tanh((z - mean) / (2 deviation + 1)) over the places of each picture.

    What stands out in a picture, whatever the threshold that its task suggests.
    """

    def call(self, inputs):
        mean, variance = tf.nn.moments(inputs, [1, 2], keepdims=True)
        # A little more than 0 under the root: its gradient at 0 is infinite.
        deviation = tf.sqrt(variance + 1e-6)
        return tf.tanh((inputs - mean) / (2 * deviation + 1))

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable(package=_PACKAGE)
class Propagate(keras.layers.Layer):
    """Scores [n, h, w, V], averaged over like cells once and twice, [n, h, w, 2V].

    Called on the embedding [n, h, w, E] of the cells and on scores. A cell counts for
    another the more, the closer they are in embedding and place.

    Args:
      stride: of the cells, in pixels.
    """

    def __init__(self, stride: int, **kwargs):
        super().__init__(**kwargs)
        self.stride = stride

    def build(self, input_shape):
        # In units of 64 pixels.
        self.place = self.add_weight(
            shape=(), initializer=keras.initializers.Constant(3.0), name="place"
        )

    def call(self, inputs):
        embedding, scores = inputs
        _, height, width, _ = embedding.shape
        cells = [-1, height * width]
        places = tf.meshgrid(tf.range(height), tf.range(width), indexing="ij")
        places = tf.cast(tf.stack(places, axis=-1), scores.dtype) * self.stride / 64
        places = tf.reshape(places * self.place, [1, height * width, 2])
        e = tf.reshape(embedding, [*cells, embedding.shape[-1]])
        # |a - b|^2 up to a constant of each row, which softmax does not see.
        distance = _squares(e) + _squares(places)
        distance -= 2 * (
            tf.matmul(e, e, transpose_b=True)
            + tf.matmul(places, places, transpose_b=True)
        )
        likeness = tf.nn.softmax(-distance)
        once = likeness @ tf.reshape(scores, [*cells, scores.shape[-1]])
        both = tf.concat([once, likeness @ once], axis=-1)
        return tf.reshape(both, [-1, height, width, both.shape[-1]])

    def compute_output_shape(self, input_shape):
        scores = input_shape[1]
        return (*scores[:-1], 2 * scores[-1])

    def get_config(self):
        return {**super().get_config(), "stride": self.stride}


def _squares(x: tf.Tensor) -> tf.Tensor:
    """|x_j|^2 in each row, [n, 1, j]."""
    return tf.reduce_sum(x * x, axis=-1)[:, tf.newaxis]


def at(x: keras.KerasTensor, grid: tuple[int, int]) -> keras.KerasTensor:
    """Averages or interpolates maps to a grid."""
    height, width = x.shape[1:3]
    if height > grid[0]:
        return keras.layers.AveragePooling2D((height // grid[0], width // grid[1]))(x)
    return x if (height, width) == grid else Resize(*grid)(x)


def joined(tensors: list[keras.KerasTensor]) -> keras.KerasTensor:
    """Puts maps of one size behind each other."""
    return tensors[0] if len(tensors) == 1 else keras.layers.Concatenate()(tensors)


def decode(
    scores: list[keras.KerasTensor],
    features: dict[int, keras.KerasTensor],
    size: tuple[int, int],
) -> keras.KerasTensor:
    """Builds the decoder.

    Args:
      scores: z of each classifier, [q, h, w, 1], at any stride.
      features: of the queries, the stages `STAGES`.
      size: height and width of the pictures; divisible by 32.

    Returns:
      One score at half resolution, [q, H / 2, W / 2, 1]. At first it is the mean of the
      scores.
    """
    layers = keras.layers
    confidences = [Confidence()(z) for z in scores]
    grid = _grid(size, 8)
    at_8 = [at(c, grid) for c in confidences]
    standard = [Standardised()(at(z, grid)) for z in scores]
    embedding = [
        layers.Conv2D(
            *(_EMBEDDING, 1),
            use_bias=False,
            kernel_initializer=keras.initializers.VarianceScaling(4.0),
            name=f"decoder_embedding{stage}",
        )(at(_unit(features[stage], f"embedding{stage}"), grid))
        for stage in _LIKENESS_STAGES
    ]
    like = Propagate(8, name="decoder_likeness")([joined(embedding), joined(at_8)])
    x = joined([*at_8, *standard, like])
    x = joined([x, at(_context(at(x, _grid(size, 16))), grid)])
    for depth, width in enumerate(_WIDTHS):
        stride = 8 >> depth
        grid = _grid(size, stride)
        if depth:
            stage = _LOW_LEVEL[depth - 1]
            low = layers.Conv2D(
                width // 2, 1, activation="relu", name=f"decoder_stage{stage}"
            )(_unit(features[stage], f"stage{stage}"))
            x = joined([at(x, grid), low, *(at(c, grid) for c in confidences)])
        for i in range(2 if stride > 2 else 1):
            x = _conv(width, f"stride{stride}_{i}")(x)
    refined = layers.Conv2D(
        1, 1, kernel_initializer="zeros", name="decoder_refinement"
    )(x)
    mean = layers.Conv2D(
        1,
        1,
        use_bias=False,
        kernel_initializer=keras.initializers.Constant(1 / len(scores)),
        name="decoder_mean",
    )(joined([at(z, grid) for z in scores]))
    return layers.Add()([mean, refined])


def _context(x: keras.KerasTensor) -> keras.KerasTensor:
    """What surrounds a cell of stride 16, and what the picture is like as a whole."""
    layers = keras.layers
    x = _conv(_WIDTHS[0], "context_1")(_conv(_WIDTHS[0], "context_0")(x))
    whole = joined(
        [
            layers.GlobalAveragePooling2D(keepdims=True)(x),
            layers.GlobalMaxPooling2D(keepdims=True)(x),
        ]
    )
    whole = layers.Conv2D(_WIDTHS[0], 1, name="decoder_context_whole")(whole)
    return layers.ReLU()(layers.Add()([x, whole]))


def _unit(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    return UnitFeatures(name=f"decoder_{name}_unit")(x)


def _conv(width: int, name: str) -> keras.layers.Layer:
    return keras.layers.Conv2D(
        width, 3, padding="same", activation="relu", name=f"decoder_{name}"
    )


def _grid(size: tuple[int, int], stride: int) -> tuple[int, int]:
    return size[0] // stride, size[1] // stride
