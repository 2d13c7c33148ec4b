"""Meta-DRN (Banerjee 2020, section IV): a dilated residual network, learned upsampling.

A head at stride 2, three residual blocks at stride 4 with growing dilation instead of
strides, two degridding layers, and one sub-pixel convolution to the size of the image.
It has 9,560,912 parameters for one class.
"""

import keras

from efficientlab_tf.errors import UserError
from efficientlab_tf.models.backbones import dtype_scope
from efficientlab_tf.models.layers import BackgroundLogit, BatchNormalization
from efficientlab_tf.models.parts import declare_decoder

declare_decoder("meta_drn", "degrid", "sub_pixel")

STRIDE = 4
_SLOPE = 0.01
_IMAGENET_MEAN = (123.675, 116.28, 103.53)
_IMAGENET_VARIANCE = (58.395**2, 57.12**2, 57.375**2)


def meta_drn(
    *,
    image_size: int = 224,
    num_classes: int = 1,
    width: float = 1.0,
    dtype: str = "float32",
) -> keras.Model:
    """Builds Meta-DRN.

    The paper reports 9.56M parameters; this network has 9,560,912 at the defaults,
    of which 7,584 are the scales and offsets of batch normalization (its running
    averages are not counted). Where the paper gives no details, they are chosen so that
    this count is met: no convolution has a bias; each but the last is followed by batch
    normalization and leaky ReLU; every residual block changes the number of filters and
    has a 1x1 convolution with batch normalization on its shortcut; the sub-pixel layer
    is a 1x1 convolution to 4 x 4 values for each class. Details that the count does not
    tell: leaky ReLU has the slope 0.01, kernels are drawn from He's normal
    distribution, and images are normalized by ImageNet's mean and deviation.

    The network has one output for each foreground class. The logit of the background is
    0, so for one class the softmax is the sigmoid of the output.

    Args:
      image_size: height and width in pixels, divisible by 4.
      num_classes: classes besides the background.
      width: factor on the number of filters, 1 in the paper.
      dtype: of all weights and activations: "float32", or "float64" for proofs.

    Returns:
      A functional model from images [N, H, W, 3], RGB 0..255, to logits
      [N, H, W, num_classes + 1]; channel 0 is the background. No random state.

    Raises:
      UserError: an image size, number of classes or width outside the above.
    """
    if image_size < STRIDE or image_size % STRIDE:
        raise UserError(
            f"`image_size` must be a multiple of {STRIDE}, received {image_size}"
        )
    if num_classes < 1 or width <= 0:
        raise UserError(
            "`num_classes` must be at least 1 and `width` positive, received "
            f"{num_classes} and {width}"
        )

    def filters(count: int) -> int:
        return max(1, round(width * count))

    with dtype_scope(dtype):
        images = keras.Input((image_size, image_size, 3), dtype=dtype, name="images")
        x = keras.layers.Normalization(
            mean=_IMAGENET_MEAN, variance=_IMAGENET_VARIANCE, name="preprocessing"
        )(images)
        x = _unit(x, filters(16), "head1", strides=2)
        x = _unit(x, filters(64), "head2")
        x = _block(x, filters(128), "block1", strides=2)
        x = _block(x, filters(256), "block2", dilations=(1, 2))
        x = _block(x, filters(512), "block3", dilations=(2, 4))
        x = _unit(x, filters(512), "degrid1", dilation=2)
        x = _unit(x, filters(512), "degrid2")
        logits = BackgroundLogit(name="logits")(_sub_pixel(x, num_classes))
    return keras.Model(images, logits, name="meta_drn")


def _convolution(x, filters: int, name: str, kernel: int = 3, **options):
    return keras.layers.Conv2D(
        filters,
        kernel,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
        **options,
    )(x)


def _leaky_relu(x, name: str):
    return keras.layers.LeakyReLU(negative_slope=_SLOPE, name=f"{name}_relu")(x)


def _unit(x, filters: int, name: str, *, strides: int = 1, dilation: int = 1):
    x = _convolution(x, filters, name, strides=strides, dilation_rate=dilation)
    return _leaky_relu(BatchNormalization(name=f"{name}_bn")(x), name)


def _block(
    x, filters: int, name: str, *, strides: int = 1, dilations: tuple[int, int] = (1, 1)
):
    """Two convolutions beside a projected shortcut, as in ResNet-18."""
    shortcut = _convolution(x, filters, f"{name}_shortcut", 1, strides=strides)
    shortcut = BatchNormalization(name=f"{name}_shortcut_bn")(shortcut)
    x = _unit(x, filters, f"{name}_1", strides=strides, dilation=dilations[0])
    x = _convolution(x, filters, f"{name}_2", dilation_rate=dilations[1])
    x = BatchNormalization(name=f"{name}_2_bn")(x)
    x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
    return _leaky_relu(x, name)


def _sub_pixel(x, channels: int):
    """A 1x1 convolution whose channels become STRIDE x STRIDE pixels of the output."""
    height, width = x.shape[1:3]
    x = _convolution(x, STRIDE * STRIDE * channels, "sub_pixel", 1)
    x = keras.layers.Reshape((height, width, STRIDE, STRIDE, channels))(x)
    x = keras.layers.Permute((1, 3, 2, 4, 5))(x)
    return keras.layers.Reshape((height * STRIDE, width * STRIDE, channels))(x)
