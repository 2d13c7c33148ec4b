"""The decoder of closed-form networks: score maps and colours to one score.

Works at half resolution: z_S of each classifier S is interpolated to it, and c is the
colour of a pixel of that size. Three things are made of them that nothing is learned
for:

    t_S = tanh(z_S / 2)
    s_S = tanh((z_S - mean) / (2 deviation + 1))           over the places of a picture
    l, d  colour log-odds and the scores drawn to the picture's edges, see `colors`

A U of few 3x3 convolutions sees t, s, l, d and c and adds to a weighted sum of z and d.
It sees colours of the query and no features, so what to segment it can know from the
support set alone.
"""

import keras
import tensorflow as tf

from efficientlab_tf.models.colors import DrawToEdges
from efficientlab_tf.models.layers import Resize

_PACKAGE = "efficientlab_tf"
_WIDTHS = (16, 24, 32, 32)
"""Channels at strides 2, 4, 8 and 16."""


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
    scores: list[keras.KerasTensor], colors: keras.KerasTensor
) -> keras.KerasTensor:
    """Builds the decoder.

    Args:
      scores: z of each classifier, [q, h, w, 1], at any stride.
      colors: of the queries at half resolution, [q, H / 2, W / 2, 3], 0..1; H and W
        divisible by 32.

    Returns:
      One score at half resolution, [q, H / 2, W / 2, 1]. At first it is the mean of all
      z and d.
    """
    layers = keras.layers
    grid = colors.shape[1:3]
    z = joined([at(score, grid) for score in scores])
    drawn = DrawToEdges(name="drawn")([colors, z])
    seen = joined([Confidence()(z), Standardised()(z), drawn, colors])
    summed = joined([z, drawn])
    x, skipped = seen, []
    for depth, width in enumerate(_WIDTHS):
        if depth:
            skipped.append(x)
            x = layers.AveragePooling2D(2)(x)
        x = _conv(width, f"down{2 << depth}")(x)
    x = _with_whole(x)
    for depth, width in reversed(list(enumerate(_WIDTHS[:-1]))):
        x = joined([at(x, skipped[depth].shape[1:3]), skipped[depth]])
        x = _conv(width, f"up{2 << depth}")(x)
    refined = layers.Conv2D(
        1, 1, kernel_initializer="zeros", name="decoder_refinement"
    )(x)
    mean = layers.Conv2D(
        *(1, 1),
        use_bias=False,
        kernel_initializer=keras.initializers.Constant(1 / summed.shape[-1]),
        name="decoder_mean",
    )(summed)
    return layers.Add()([mean, refined])


def _with_whole(x: keras.KerasTensor) -> keras.KerasTensor:
    """Adds to each place what the picture is like as a whole."""
    layers = keras.layers
    whole = joined(
        [
            layers.GlobalAveragePooling2D(keepdims=True)(x),
            layers.GlobalMaxPooling2D(keepdims=True)(x),
        ]
    )
    whole = layers.Conv2D(x.shape[-1], 1, name="decoder_whole")(whole)
    return layers.ReLU()(layers.Add()([_conv(x.shape[-1], "around")(x), whole]))


def _conv(width: int, name: str) -> keras.layers.Layer:
    return keras.layers.Conv2D(
        width, 3, padding="same", activation="relu", name=f"decoder_{name}"
    )
