"""AlexNet (Krizhevsky et al., 2012), as Caffe has it, and its fully convolutional form.

Layers have Caffe's names, conv1 to conv5 and fc6 to fc8; conv2, conv4 and conv5 are in
two groups. fc6 and fc7 are 6x6 and 1x1 convolutions. There are no weights to download:
those of a person are arrays "conv1/kernel", "conv1/bias", ... in an .npz file, kernels
[height, width, in, out] for images that `BgrPreprocessing` has prepared.
"""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from efficientlab_tf.errors import UserError
from efficientlab_tf.models.arguments import check
from efficientlab_tf.models.layers import Dropout
from efficientlab_tf.models.vgg import BgrPreprocessing

NAME = "AlexNet"
CLASSIFIER_SIZE = 227
"""Height and width, in pixels, of the images that fc6 to fc8 take."""

# Name, filters, kernel, stride, groups, whether normalized, whether pooled.
_CONVOLUTIONS = (
    ("conv1", 96, 11, 4, 1, True, True),
    ("conv2", 256, 5, 1, 2, True, True),
    ("conv3", 384, 3, 1, 1, False, False),
    ("conv4", 384, 3, 1, 2, False, False),
    ("conv5", 256, 3, 1, 2, False, True),
)
_FULLY_CONNECTED = 4096
_PACKAGE = "efficientlab_tf"


@keras.saving.register_keras_serializable(package=_PACKAGE)
class GroupedConv2D(layers.Conv2D):
    """A convolution in groups, which TensorFlow has none of for a CPU."""

    def convolution_op(self, inputs, kernel):
        parts = zip(
            tf.split(inputs, self.groups, axis=-1),
            tf.split(kernel, self.groups, axis=-1),
            strict=True,
        )
        how = self.strides, self.padding.upper()
        return tf.concat([tf.nn.conv2d(x, k, *how) for x, k in parts], axis=-1)


@keras.saving.register_keras_serializable(package=_PACKAGE)
class LocalResponseNormalization(layers.Layer):
    """x / (1 + 1e-4 / 5 * sum of the squares of five channels) ** 0.75."""

    def call(self, inputs):
        squares = tf.pad(inputs**2, [[0, 0]] * 3 + [[2, 2]])
        channels = inputs.shape[-1]
        total = tf.add_n([squares[..., i : i + channels] for i in range(5)])
        return inputs * (1 + 1e-4 / 5 * total) ** -0.75

    def compute_output_shape(self, input_shape):
        return input_shape


def alexnet_fcn(
    image_size: tuple[int, int],
    *,
    width: float = 1.0,
    dropout: float = 0.5,
    weights: str | None = None,
    prefix: str = "",
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Builds AlexNet up to fc7 at stride 32, in the current dtype policy.

    All convolutions have 'same' padding, as those of `vgg.vgg16_fcn`.

    Args:
      image_size: height and width, each divisible by 32.
      width: factor on the number of channels.
      dropout: rate behind fc6 and fc7; 0 leaves it out.
      weights: None for random ones, or an .npz file, see the top of the module.
      prefix: of the name of every layer.

    Returns:
      The Keras input [N, H, W, 3], RGB 0..255, and the features
      [N, H / 32, W / 32, 4096 width].

    Raises:
      UserError: an argument outside the above, or a file without these weights.
    """
    network = _network(image_size, width, dropout, weights, prefix, "same")
    if weights is not None:
        load_arrays(keras.Model(*network), weights, prefix)
    return network


def alexnet_classifier(
    classes: int,
    *,
    width: float = 1.0,
    dropout: float = 0.5,
    weights: str | None = None,
    prefix: str = "",
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Builds AlexNet for images of 227x227 pixels, in the current dtype policy.

    Args:
      classes: outputs of fc8; weights of another number of classes are not taken.
      width, dropout, weights, prefix: see `alexnet_fcn`.

    Returns:
      The Keras input [N, 227, 227, 3], RGB 0..255, and the outputs of fc8
      [N, classes], without softmax.

    Raises:
      UserError: see `alexnet_fcn`.
    """
    size = (CLASSIFIER_SIZE,) * 2
    images, x = _network(size, width, dropout, weights, prefix, "valid")
    x = layers.Flatten(name=f"{prefix}flatten")(x)
    outputs = layers.Dense(classes, name=f"{prefix}fc8")(x)
    if weights is not None:
        load_arrays(keras.Model(images, outputs), weights, prefix)
    return images, outputs


def load_arrays(model: keras.Model, path: str, prefix: str = "") -> None:
    """Reads weights from an .npz file, see the top of the module.

    Raises:
      UserError: it cannot be read, or lacks a weight.
    """
    try:
        arrays = dict(np.load(path))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read `weights` {path}: {error}") from error
    for layer in model.layers:
        name = layer.name.removeprefix(prefix)
        for variable in layer.weights:
            key = f"{name}/{variable.name}"
            value = arrays.get(key)
            if value is not None and value.size == np.prod(variable.shape):
                variable.assign(value.reshape(variable.shape))
            elif name != "fc8":
                raise UserError(
                    f"`weights` {path}: expected {key} of {list(variable.shape)}, "
                    f"received {None if value is None else list(value.shape)}"
                )


def _network(size, width: float, dropout: float, weights, prefix: str, padding: str):
    check(width > 0, "width", "a positive factor", width)
    check(0 <= dropout < 1, "dropout", "a rate in [0, 1)", dropout)
    files = weights is None or weights.endswith(".npz")
    check(files, "weights", f"an .npz file or none for {NAME}", weights)
    dtype = keras.config.dtype_policy().compute_dtype
    images = keras.Input((*size, 3), dtype=dtype, name="images")
    x = BgrPreprocessing(name=f"{prefix}preprocessing")(images)
    for name, filters, kernel, stride, groups, normalized, pooled in _CONVOLUTIONS:
        x = (GroupedConv2D if groups > 1 else layers.Conv2D)(
            2 * max(1, round(width * filters / 2)),
            kernel,
            stride,
            padding=padding if name == "conv1" else "same",
            groups=groups,
            activation="relu",
            name=prefix + name,
        )(x)
        if normalized:
            x = LocalResponseNormalization(name=f"{prefix}{name}_norm")(x)
        if pooled:
            x = layers.MaxPooling2D(3, 2, padding, name=f"{prefix}{name}_pool")(x)
    channels = max(1, round(width * _FULLY_CONNECTED))
    for name, kernel in ("fc6", 6), ("fc7", 1):
        x = layers.Conv2D(
            channels, kernel, padding=padding, activation="relu", name=prefix + name
        )(x)
        if dropout:
            x = Dropout(dropout, name=f"{prefix}{name}_dropout")(x)
    return images, x
