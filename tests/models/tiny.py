"""A segmentation network of a few thousand parameters, for tests."""

import keras

from efficientlab_tf.models import declare_decoder
from efficientlab_tf.models.layers import BatchNormalization, Dropout, Resize

declare_decoder("tiny", "decoder", "logits")


def tiny_network(
    image_size: int = 32,
    num_classes: int = 1,
    dtype: str = "float32",
    dropout: float = 0.0,
) -> keras.Model:
    """Every kind of layer that EfficientLab has, once, in under 5,000 parameters.

    Args:
      image_size: height and width of the images, divisible by 4.
      num_classes: classes besides the background.
      dtype: of weights and logits.
      dropout: rate before the last convolution; at 0 the network has no random
        state, so the only non-trainable variables are moving averages.

    Returns:
      A functional model: images [N, image_size, image_size, 3], RGB 0..255, to
      logits [N, image_size, image_size, num_classes + 1].
    """
    layers = keras.layers
    images = keras.Input((image_size, image_size, 3), dtype=dtype)
    x = layers.Rescaling(1 / 64, -2.0, dtype=dtype)(images)
    x = layers.Conv2D(
        16, 3, strides=2, padding="same", use_bias=False, dtype=dtype, name="stem"
    )(x)
    x = BatchNormalization(dtype=dtype, name="stem_bn")(x)
    skip = x = layers.Activation("swish", dtype=dtype)(x)
    x = layers.DepthwiseConv2D(
        3, strides=2, padding="same", use_bias=False, dtype=dtype, name="dwconv"
    )(x)
    x = BatchNormalization(dtype=dtype, name="dwconv_bn")(x)
    x = layers.Activation("swish", dtype=dtype)(x)
    x = Resize(image_size // 2, image_size // 2, align_corners=True, dtype=dtype)(x)
    x = layers.Concatenate(dtype=dtype)([x, skip])
    x = layers.Conv2D(
        12, 3, dilation_rate=2, padding="same", dtype=dtype, name="decoder"
    )(x)
    x = layers.Activation("swish", dtype=dtype)(x)
    x = BatchNormalization(dtype=dtype, name="decoder_bn")(x)
    if dropout:
        x = Dropout(dropout, dtype=dtype, name="final_dropout")(x)
    x = layers.Conv2D(num_classes + 1, 1, dtype=dtype, name="logits")(x)
    logits = Resize(image_size, image_size, align_corners=True, dtype=dtype)(x)
    return keras.Model(images, logits, name="tiny")
