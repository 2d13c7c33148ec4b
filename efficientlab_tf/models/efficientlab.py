"""EfficientLab (Hendryx et al., 2019, section 4): EfficientNet and a light decoder."""

from collections.abc import Sequence

import keras

from efficientlab_tf.models import backbones, decoders, hub
from efficientlab_tf.models.arguments import check, check_common, parse_image_size
from efficientlab_tf.models.layers import Dropout
from efficientlab_tf.models.parts import declare_decoder

declare_decoder("efficientlab", "rsd", "aspp_", "refine", "classifier")

DECODERS = ("none", "auto_deeplab", "rsd")
LAST_STAGES = (6, 7, 8)


def efficientlab(
    *,
    image_size: int | tuple[int, int] = 224,
    backbone: str = "EfficientNetB0",
    last_stage: int = backbones.STAGES[-1],
    decoder: str = "rsd",
    rsd_stages: Sequence[int] = (3,),
    residual: bool = True,
    num_classes: int = 1,
    final_dropout: float = 0.2,
    drop_connect: float = 0.2,
    freeze_features: bool = False,
    weights: str | None = None,
    dtype: str = "float32",
) -> keras.Model:
    """Builds the segmentation network.

    The encoder ends with `last_stage`, in the paper stage 6 at stride 16; the decoder's
    features go through dropout, a 1x1 convolution and bilinear upsampling with aligned
    corners to the image's size. All layers can be differentiated twice. The defaults
    are the best network of table 1, with 1,368,242 trainable parameters.

    Args:
      image_size: height and width in pixels, or one number for both; divisible
        by 32.
      backbone: one of `backbones.BACKBONES`.
      last_stage: 6 (the paper), or 7 or 8, at stride 32, which the authors cut off.
      decoder: "none", "auto_deeplab" or "rsd" (see `decoders`).
      rsd_stages: stages that "rsd" skips from, out of 2..6: (3,) or (6, 3) in the
        paper; the order does not matter.
      residual: whether each RSD module adds its input.
      num_classes: classes besides the background.
      final_dropout: dropout rate before the last convolution.
      drop_connect: stochastic depth at the encoder's end; see `build_encoder`.
      freeze_features: whether the encoder stays as it is, its running averages
        included; without stochastic depth then.
      weights: None for random weights, or "imagenet" for those of the encoder. The
        decoder starts from Glorot uniform kernels (paper, footnote 7).
      dtype: of all weights and activations: "float32", or "float64" for proofs.

    Returns:
      A functional model from images [N, H, W, 3], RGB 0..255, uint8 or float (cast
      to `dtype`), to logits [N, H, W, num_classes + 1] in `dtype`; channel 0 is the
      background. With both rates 0 it has no random state.

    Raises:
      UserError: an argument outside the above, or ImageNet weights that cannot be
        downloaded.
    """
    size = parse_image_size(image_size)
    check(decoder in DECODERS, "decoder", f"one of {', '.join(DECODERS)}", decoder)
    check_common(weights, dtype, num_classes)
    check(last_stage in LAST_STAGES, "last_stage", f"one of {LAST_STAGES}", last_stage)
    for name, rate in ("final_dropout", final_dropout), ("drop_connect", drop_connect):
        check(0 <= rate < 1, name, "a rate in [0, 1)", rate)
    rsd_stages = tuple(rsd_stages)
    check(
        decoder != "rsd"
        or rsd_stages
        and len(set(rsd_stages)) == len(rsd_stages)
        and set(rsd_stages) <= set(backbones.STAGES),
        "rsd_stages",
        f"different stages out of {backbones.STAGES}",
        rsd_stages,
    )
    known = ", ".join(backbones.BACKBONES)
    check(not hub.is_hub(backbone), "backbone", f"one of {known}", backbone)
    with backbones.dtype_scope(dtype):
        images, stages = backbones.build_encoder(
            backbone,
            size,
            0.0 if freeze_features else drop_connect,
            weights,
            last_stage,
        )
        if freeze_features:
            for layer in keras.Model(images, list(stages.values())).layers:
                layer.trainable = False
        if decoder == "rsd":
            x = decoders.residual_skip_decoder(stages, rsd_stages, residual)
        elif decoder == "auto_deeplab":
            x = decoders.auto_deeplab_decoder(stages, backbones.STRIDES[max(stages)])
        else:
            x = stages[max(stages)]
        if final_dropout:
            x = Dropout(final_dropout, name="final_dropout")(x)
        x = keras.layers.Conv2D(num_classes + 1, 1, name="classifier")(x)
        logits = decoders.resize(x, size, "logits")
    return keras.Model(images, logits, name="efficientlab")
