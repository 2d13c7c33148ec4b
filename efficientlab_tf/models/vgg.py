"""VGG-16 (Simonyan & Zisserman, 2015) and its FCN-32s (Long et al., 2015).

Layers have the names of keras.applications.VGG16 (`block1_conv1`, ...) and, after the
last pooling, those of the papers (`fc6`, `fc7`, `fc8`). The fully connected layers fc6
and fc7 are 7x7 and 1x1 convolutions, so that both networks can have the same weights.
"""

import keras
import tensorflow as tf
from keras import layers

from efficientlab_tf.models.arguments import check
from efficientlab_tf.models.backbones import load_application
from efficientlab_tf.models.layers import Dropout

NAME = "VGG16"
CLASSIFIER_SIZE = 224
"""Height and width, in pixels, of the images that fc6 to fc8 take."""

# Filters and convolutions of each block; channels of fc6 and fc7.
_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
_FULLY_CONNECTED = 4096
_MEAN_BGR = (103.939, 116.779, 123.68)
# Our name -> that of keras.applications.
_TOP = {"fc6": "fc1", "fc7": "fc2", "fc8": "predictions"}


@keras.saving.register_keras_serializable(package="efficientlab_tf")
class BgrPreprocessing(layers.Layer):
    """RGB 0..255 to BGR minus ImageNet's mean colour, as VGG-16's weights expect.

    The same as `keras.applications.vgg16.preprocess_input`; the mean colour becomes 0.
    """

    def call(self, inputs):
        return tf.reverse(inputs, [-1]) - tf.constant(_MEAN_BGR, inputs.dtype)


def vgg16_fcn(
    image_size: tuple[int, int],
    *,
    width: float = 1.0,
    dilated: bool = False,
    dropout: float = 0.5,
    weights: str | None = None,
    prefix: str = "",
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Builds FCN-32s up to fc7, in the current dtype policy.

    All convolutions have 'same' padding, so that cell i of the features corresponds to
    pixels 32 i to 32 i + 31. (Long et al. pad the image by 100 pixels and crop later.)

    With `dilated` the output stride is 8 (Yu & Koltun, 2016, section 4): pool4 and
    pool5 are left out, and to keep the receptive fields block5 is dilated by 2 and fc6
    by 4. The weights are the same.

    Args:
      image_size: height and width, each divisible by 32.
      width: factor on the number of channels, 1 in the paper.
      dilated: see above.
      dropout: rate behind fc6 and fc7; 0 leaves it out.
      weights: None or "imagenet". Random kernels are Glorot uniform, as in
        keras.applications: for inputs of about 100 the features are about 1, where
        He's initialization would leave them at 100.
      prefix: of the name of every layer.

    Returns:
      The Keras input [N, H, W, 3], RGB 0..255, and the features
      [N, H / stride, W / stride, 4096 width]. 134,260,544 parameters at width 1.

    Raises:
      UserError: an argument outside the above, or ImageNet weights that cannot be
        downloaded.
    """
    images = _images(image_size, width, dropout, weights)
    x = _convolutions(images, width, prefix, dilated)
    dilation_rate = 4 if dilated else 1
    features = _fully_connected(x, width, prefix, dropout, dilation_rate=dilation_rate)
    if weights is not None:
        _load_imagenet(keras.Model(images, features), prefix)
    return images, features


def vgg16_classifier(
    classes: int,
    *,
    width: float = 1.0,
    dropout: float = 0.5,
    weights: str | None = None,
    prefix: str = "",
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Builds VGG-16 for images of 224x224 pixels, in the current dtype policy.

    Args:
      classes: outputs of fc8. With "imagenet" weights, 1000 classes start from
        ImageNet's fc8; another number starts from a random one.
      width: see `vgg16_fcn`.
      dropout: see `vgg16_fcn`.
      weights: see `vgg16_fcn`.
      prefix: see `vgg16_fcn`.

    Returns:
      The Keras input [N, 224, 224, 3], RGB 0..255, and the outputs of fc8
      [N, classes], without softmax.

    Raises:
      UserError: see `vgg16_fcn`.
    """
    images = _images((CLASSIFIER_SIZE,) * 2, width, dropout, weights)
    x = _convolutions(images, width, prefix)
    x = _fully_connected(x, width, prefix, dropout, padding="valid")
    x = layers.Flatten(name=f"{prefix}flatten")(x)
    outputs = layers.Dense(classes, name=f"{prefix}fc8")(x)
    if weights is not None:
        _load_imagenet(keras.Model(images, outputs), prefix)
    return images, outputs


def copy_weights(source: keras.Model, target: keras.Model, prefix: str = "") -> None:
    """Copies the weights of a classification network to a network of this module.

    Args:
      source: with the layers of keras.applications.VGG16 and its top: fc1's kernel
        [49 C, D] becomes that of fc6, [7, 7, C, D], and fc2's that of fc7.
      target: `vgg16_fcn` or `vgg16_classifier`, of the same width.
      prefix: of the names of the target's layers.
    """
    for layer in target.layers:
        if not layer.weights:
            continue
        name = layer.name.removeprefix(prefix)
        copied = source.get_layer(_TOP.get(name, name)).weights
        if name == "fc8" and layer.units != copied[-1].shape[0]:
            continue
        for variable, value in zip(layer.weights, copied, strict=True):
            variable.assign(tf.reshape(value, variable.shape))


def _load_imagenet(model: keras.Model, prefix: str) -> None:
    copy_weights(load_application(NAME, weights="imagenet"), model, prefix)


def _images(
    size: tuple[int, int], width: float, dropout: float, weights: str | None
) -> keras.KerasTensor:
    check(width > 0, "width", "a positive factor", width)
    check(
        weights is None or width == 1,
        "width",
        f"1, which is the width of {NAME}'s ImageNet weights",
        width,
    )
    check(0 <= dropout < 1, "dropout", "a rate in [0, 1)", dropout)
    dtype = keras.config.dtype_policy().compute_dtype
    return keras.Input((*size, 3), dtype=dtype, name="images")


def _convolution(x, filters, kernel_size, name, padding="same", dilation_rate=1):
    return layers.Conv2D(
        filters,
        kernel_size,
        padding=padding,
        dilation_rate=dilation_rate,
        activation="relu",
        name=name,
    )(x)


def _channels(count: int, width: float) -> int:
    return max(1, round(width * count))


def _convolutions(images, width: float, prefix: str, dilated: bool = False):
    x = BgrPreprocessing(name=f"{prefix}preprocessing")(images)
    for i, (filters, convolutions) in enumerate(_BLOCKS, start=1):
        for j in range(1, convolutions + 1):
            x = _convolution(
                x,
                _channels(filters, width),
                3,
                f"{prefix}block{i}_conv{j}",
                dilation_rate=2 if dilated and i == 5 else 1,
            )
        if not (dilated and i >= 4):
            x = layers.MaxPooling2D(2, name=f"{prefix}block{i}_pool")(x)
    return x


def _fully_connected(x, width: float, prefix: str, dropout: float, **options):
    channels = _channels(_FULLY_CONNECTED, width)
    for name, kernel_size, settings in (("fc6", 7, options), ("fc7", 1, {})):
        name = prefix + name
        x = _convolution(x, channels, kernel_size, name, **settings)
        if dropout:
            x = Dropout(dropout, name=f"{name}_dropout")(x)
    return x
