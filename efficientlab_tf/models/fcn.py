"""Fully convolutional networks (Long et al., 2015) on dense features, one scale."""

import keras

from efficientlab_tf.models import alexnet
from efficientlab_tf.models.arguments import check_common, parse_image_size
from efficientlab_tf.models.backbones import dtype_scope
from efficientlab_tf.models.features import dense_features
from efficientlab_tf.models.layers import BatchNormalization, Resize
from efficientlab_tf.models.parts import declare_decoder

declare_decoder("fcn", "fc6", "fc7", "classifier")


def fcn(
    *,
    image_size: int | tuple[int, int] = 224,
    backbone: str = "VGG16",
    num_classes: int = 1,
    weights: str | None = None,
    width: float = 1.0,
    dilated: bool = False,
    dropout: float = 0.5,
    normalize_features: bool = True,
    dtype: str = "float32",
) -> keras.Model:
    """Builds features, a 1x1 scoring convolution and bilinear upsampling.

    With VGG16 it is FCN-32s, the base network of the baselines of Shaban et al. (2017,
    section 6). They fine-tune fc6, fc7 and fc8 on the support set, which converges
    faster with the features of fc7 batch-normalized. Those layers are the
    decoder that this network declares: `fc6`, `fc7`, `classifier_bn`, and `classifier`,
    which is their fc8.

    Upsampling has half-pixel centres, which centres the score of a cell of features on
    the pixels of that cell.

    Args:
      image_size: height and width in pixels, or one number for both; divisible
        by 32.
      backbone: one of `features.BACKBONES`.
      num_classes: classes besides the background; 15 in the paper's training.
      weights: None for random weights, or "imagenet" for the backbone's.
      width: VGG16's factor on the number of channels, 1 in the paper.
      dilated: VGG16 at stride 8; see `vgg.vgg16_fcn`.
      dropout: VGG16's rate behind fc6 and fc7.
      normalize_features: see above.
      dtype: of all weights and activations: "float32", or "float64" for proofs.

    Returns:
      A functional model from images [N, H, W, 3], RGB 0..255, to logits
      [N, H, W, num_classes + 1]; channel 0 is the background.

    Raises:
      UserError: an argument outside the above, or ImageNet weights that cannot be
        downloaded.
    """
    size = parse_image_size(image_size)
    check_common(weights, dtype, num_classes, files=backbone == alexnet.NAME)
    with dtype_scope(dtype):
        images, x = dense_features(
            backbone, size, weights, width=width, dilated=dilated, dropout=dropout
        )
        if normalize_features:
            x = BatchNormalization(name="classifier_bn")(x)
        x = keras.layers.Conv2D(num_classes + 1, 1, name="classifier")(x)
        logits = Resize(*size, name="logits")(x)
    return keras.Model(images, logits, name="fcn")
