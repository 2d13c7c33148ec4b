"""Decoders of table 1 of Hendryx et al. (2019).

Each maps the stages of an `Encoder` to features at a smaller stride. The classifier and
the upsampling to the size of the image follow in `efficientlab`.
"""

from collections.abc import Sequence

import keras
from keras import layers

from efficientlab_tf.models.backbones import STAGES
from efficientlab_tf.models.layers import BatchNormalization, Resize

_ATROUS_RATE = 96
_ASPP_FILTERS = 256
_LOW_LEVEL_FILTERS = 48
_LOW_LEVEL_STAGE = 3


def residual_skip_decoder(
    stages: dict[int, keras.KerasTensor], rsd_stages: Sequence[int], residual: bool
) -> keras.KerasTensor:
    """The residual skip decoder (RSD), section 4 and figure 1 of Hendryx et al.

    For each stage of `rsd_stages`, deepest first: upsample the features so far to
    the stage's size, concatenate both, put the result through three branches (1x1
    convolution, 3x3 convolution of dilation 2, spatial mean), concatenate these,
    convolve 3x3, and add the upsampled features. Every convolution has a bias and
    as many filters as stage 6 has (112 in B0), and is followed by swish, then batch
    normalization, as in the authors' network, which ends there. Where the encoder goes
    on, a 1x1 convolution brings its last stage to that number first.

    Args:
      stages: stage -> features [N, h, w, c].
      rsd_stages: the stages to skip from.
      residual: whether to add the upsampled features.

    Returns:
      Features [N, h, w, c] at the size of the lowest stage of `rsd_stages`.
    """

    def conv(x, name, kernel_size, dilation_rate=1):
        x = layers.Conv2D(
            filters,
            kernel_size,
            dilation_rate=dilation_rate,
            padding="same",
            activation="swish",
            name=f"{name}_conv",
        )(x)
        return BatchNormalization(name=f"{name}_bn")(x)

    x = stages[max(stages)]
    filters = stages[STAGES[-1]].shape[-1]
    if max(stages) > STAGES[-1]:
        x = conv(x, "rsd_first", 1)
    for stage in sorted(rsd_stages, reverse=True):
        skip = stages[stage]
        name = f"rsd{stage}"
        upsampled = resize(x, skip.shape[1:3], f"{name}_upsample")
        x = layers.Concatenate(name=f"{name}_skip")([upsampled, skip])
        pyramid = [
            conv(x, f"{name}_branch0", 1),
            conv(x, f"{name}_branch1", 3, dilation_rate=2),
            _image_mean(x, f"{name}_branch2"),
        ]
        x = layers.Concatenate(name=f"{name}_pyramid")(pyramid)
        x = conv(x, f"{name}_out", 3)
        if residual:
            x = layers.Add(name=f"{name}_add")([x, upsampled])
    return x


def auto_deeplab_decoder(
    stages: dict[int, keras.KerasTensor], stride: int
) -> keras.KerasTensor:
    """The decoder of Auto-DeepLab (Liu et al., 2019).

    Its section 4 takes atrous spatial pyramid pooling in three branches instead of
    DeepLabv3+'s five: a 1x1 convolution, one 3x3 convolution of rate 96 / stride,
    and the image mean through a 1x1 convolution. Its section 5 takes the decoder of
    DeepLabv3+ (Chen et al., 2018, section 4.1) from there: upsample to stride 4,
    concatenate the encoder's features of that stride reduced to 48 channels,
    convolve 3x3 with 256 filters twice. As there, each convolution has 256 filters
    and no bias and is followed by batch normalization, then ReLU. The batch
    normalization of the image mean sees one value per image: a batch of one image
    leaves this branch constant.

    Hendryx et al. ablate with a lighter variant in their code (112 filters, dropout
    for batch normalization, separable convolutions); this follows the paper cited.

    Args:
      stages: stage -> features [N, h, w, c].
      stride: of the last stage.

    Returns:
      Features [N, h, w, 256] at stride 4.
    """

    def conv(x, name, kernel_size=1, dilation_rate=1, filters=_ASPP_FILTERS):
        x = layers.Conv2D(
            filters,
            kernel_size,
            dilation_rate=dilation_rate,
            padding="same",
            use_bias=False,
            name=f"{name}_conv",
        )(x)
        x = BatchNormalization(name=f"{name}_bn")(x)
        return layers.ReLU(name=f"{name}_activation")(x)

    x = stages[max(stages)]
    mean = layers.GlobalAveragePooling2D(keepdims=True, name="aspp_mean")(x)
    mean = conv(mean, "aspp_branch2")
    pyramid = [
        conv(x, "aspp_branch0"),
        conv(x, "aspp_branch1", 3, dilation_rate=_ATROUS_RATE // stride),
        layers.UpSampling2D(x.shape[1:3], name="aspp_broadcast")(mean),
    ]
    x = layers.Concatenate(name="aspp_pyramid")(pyramid)
    x = conv(x, "aspp_out")
    low_level = stages[_LOW_LEVEL_STAGE]
    x = resize(x, low_level.shape[1:3], "refine_upsample")
    low_level = conv(low_level, "refine_skip", filters=_LOW_LEVEL_FILTERS)
    x = layers.Concatenate(name="refine_concatenate")([x, low_level])
    x = conv(x, "refine0", 3)
    return conv(x, "refine1", 3)


def resize(x: keras.KerasTensor, size: tuple[int, int], name: str) -> keras.KerasTensor:
    """Bilinear resize with aligned corners; left out where the size is right."""
    if tuple(x.shape[1:3]) == tuple(size):
        return x
    return Resize(*size, align_corners=True, name=name)(x)


def _image_mean(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    mean = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean")(x)
    return layers.UpSampling2D(x.shape[1:3], name=f"{name}_broadcast")(mean)
