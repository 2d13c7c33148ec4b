"""Dense features of an image, from any backbone."""

import keras

from efficientlab_tf.models import alexnet, backbones, vgg
from efficientlab_tf.models.arguments import check, parse_image_size
from efficientlab_tf.models.layers import BatchNormalization

BACKBONES = (vgg.NAME, alexnet.NAME, *backbones.BACKBONES)
_LAST_STAGE = max(backbones.STAGES)


def dense_features(
    backbone: str,
    image_size: int | tuple[int, int],
    weights: str | None = None,
    stage: int | None = None,
    width: float = 1.0,
    dilated: bool = False,
    dropout: float = 0.5,
    prefix: str = "",
    frozen_normalization: bool = False,
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Builds a network from images to features, in the current dtype policy.

    Args:
      backbone: one of `BACKBONES`.
      image_size: height and width, or one number for both; divisible by 32.
      weights: None (random) or "imagenet"; AlexNet: an .npz file.
      stage: where an EfficientNet ends, out of `backbones.STAGES`; None is stage 6,
        at stride 16. VGG16 ends with fc7, at stride 32, or 8 if dilated; AlexNet with
        fc7 at stride 32.
      width: VGG16's and AlexNet's factor on the number of channels.
      dilated: VGG16's smaller stride; see `vgg.vgg16_fcn`.
      dropout: VGG16's and AlexNet's rate behind fc6 and fc7. EfficientNets are without
        drop-connect.
      prefix: of the name of every layer and variable.
      frozen_normalization: whether the batch normalization of an EfficientNet keeps its
        averages, scales and offsets in training: for networks that are trained on one
        or two images at a time, whose statistics would be poor. (VGG16 has none.)

    Returns:
      The Keras input [N, H, W, 3], RGB 0..255, named "images", and the features
      [N, h, w, C]. The layer behind the input is called "preprocessing", with the
      prefix.

    Raises:
      UserError: an argument outside the above, an option that the backbone lacks, or
        ImageNet weights that cannot be downloaded.
    """
    size = parse_image_size(image_size)
    check_backbone(backbone, width, dilated)
    if backbone == vgg.NAME:
        check(stage is None, "stage", f"None, {vgg.NAME} ends with fc7", stage)
        options = {"width": width, "dilated": dilated, "dropout": dropout}
        return vgg.vgg16_fcn(size, weights=weights, prefix=prefix, **options)
    if backbone == alexnet.NAME:
        check(stage is None, "stage", f"None, {alexnet.NAME} ends with fc7", stage)
        options = {"width": width, "dropout": dropout, "weights": weights}
        return alexnet.alexnet_fcn(size, prefix=prefix, **options)
    stage = _LAST_STAGE if stage is None else stage
    stages = f"one of {backbones.STAGES}"
    check(stage in backbones.STAGES, "stage", stages, stage)
    encoder = backbones.build_encoder(backbone, size, 0.0, weights)
    network = encoder.images, encoder.stages[stage]
    if frozen_normalization:
        for layer in keras.Model(*network).layers:
            if isinstance(layer, BatchNormalization):
                layer.trainable = False
    return _renamed(*network, prefix) if prefix else network


def check_backbone(backbone: str, width: float = 1.0, dilated: bool = False) -> None:
    """Checks that a backbone exists and has the given options.

    Raises:
      UserError: unknown, or an EfficientNet with an option of VGG16.
    """
    check(backbone in BACKBONES, "backbone", f"one of {', '.join(BACKBONES)}", backbone)
    if backbone != vgg.NAME:
        own = width == 1 or backbone == alexnet.NAME
        names = f"{vgg.NAME}'s and {alexnet.NAME}'s alone"
        check(own, "width", f"1, it is {names}", width)
        check(not dilated, "dilated", f"False, it is {vgg.NAME}'s alone", dilated)


def _renamed(images: keras.KerasTensor, features: keras.KerasTensor, prefix: str):
    """A copy, because a variable takes the name of its layer when it is created."""

    def rename(layer):
        config = layer.get_config()
        return type(layer).from_config({**config, "name": prefix + config["name"]})

    network = keras.Model(images, features)
    copy = keras.models.clone_model(network, clone_function=rename)
    copy.set_weights(network.get_weights())
    return copy.input, copy.output
