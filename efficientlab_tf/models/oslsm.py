"""OSLSM, one-shot learning for semantic segmentation (Shaban et al., 2017).

    w, b = g(support image, its mask)       conditioning branch, equation 1
    M^mn = sigmoid(w . F^mn + b)            F: fc7 of FCN-32s on the query, equation 2

For k support images the mask is the OR of the k masks.
"""

import keras
import numpy as np
import tensorflow as tf

from efficientlab_tf.models import alexnet, vgg
from efficientlab_tf.models.arguments import check, check_common, parse_image_size
from efficientlab_tf.models.backbones import dtype_scope
from efficientlab_tf.models.conditioned import CONDITIONING, make_inputs, mark_guide
from efficientlab_tf.models.features import check_backbone, dense_features
from efficientlab_tf.models.layers import BackgroundLogit, Resize

SEGMENTATION = "segmentation_"
_PACKAGE = "efficientlab_tf"
_FOREGROUND = 1


@keras.saving.register_keras_serializable(package=_PACKAGE)
class ForegroundOnly(keras.layers.Layer):
    """Sets [k, H, W, C] to zero where masks [k, H, W] are not 1."""

    def call(self, inputs):
        x, masks = inputs
        return x * tf.cast(masks == _FOREGROUND, x.dtype)[..., None]


@keras.saving.register_keras_serializable(package=_PACKAGE)
class WeightHashing(keras.layers.Layer):
    """Maps [N, m] to [N, d] by a fixed random rule (Shaban et al., 2017, S1-S3).

        theta(i) = x(kappa(i)) zeta(i)

    with kappa(i) in 1..m and zeta(i) in {-1, +1}. That is the product with the matrix
    W(i, j) = zeta(i) delta_j(kappa(i)), computed as a gather and a sign. Nothing is
    learned, and only the seed is stored: both functions are made of the bits of the
    counter-based generator Philox, which are the same on every machine and in every
    version of NumPy.

    Args:
      outputs: d.
      seed: a whole number from 0, Philox's key.
    """

    def __init__(self, outputs: int, seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.outputs = outputs
        self.seed = seed

    def build(self, input_shape):
        bits = np.random.Philox(key=self.seed).random_raw(2 * self.outputs)
        # 64 bits modulo some thousand are uniform but for 1e-16.
        self._sources = (bits[: self.outputs] % input_shape[-1]).astype(np.int32)
        self._signs = 1 - 2 * (bits[self.outputs :] % 2).astype(np.float64)

    def call(self, inputs):
        spread = tf.gather(inputs, self._sources, axis=-1)
        return spread * tf.constant(self._signs, inputs.dtype)

    def get_config(self):
        return {**super().get_config(), "outputs": self.outputs, "seed": self.seed}


@keras.saving.register_keras_serializable(package=_PACKAGE)
class PixelClassifiers(keras.layers.Layer):
    """Scores w_k . F + b_k [q, h, w, k] of features F [q, h, w, C].

    Called on w and then b, [k, C+1], and the features.
    """

    def call(self, inputs):
        parameters, features = inputs
        scores = tf.einsum("qhwc,kc->qhwk", features, parameters[:, :-1])
        return scores + parameters[:, -1]


@keras.saving.register_keras_serializable(package=_PACKAGE)
class MaximumOverShots(keras.layers.Layer):
    """The maximum over the last axis, which is kept with length one."""

    def call(self, inputs):
        return tf.reduce_max(inputs, axis=-1, keepdims=True)


def oslsm(
    *,
    image_size: int | tuple[int, int] = 224,
    backbone: str = "VGG16",
    weights: str | None = None,
    width: float = 1.0,
    hashed: int = 1000,
    dilated: bool = False,
    hash_seed: int = 0,
    dropout: float = 0.5,
    dtype: str = "float32",
) -> keras.Model:
    """Builds the network of Shaban et al. (2017), section 4.

    The conditioning branch is VGG-16 on the masked support image, followed by weight
    hashing (see `WeightHashing`) from its 1000 outputs to w and b. As in the authors'
    network

      - the mask (1 is foreground; 0, 255 and everything else is not) is applied after
        preprocessing, so that masked pixels have the mean colour, which is 0;
      - VGG-16 gets the support at 224x224, the size it was made for, whatever
        `image_size` is. (They resize image and mask before masking. Here the masked
        image is resized, bilinearly, so that no masked pixel has an influence.)
      - the k score maps are upsampled (here with half-pixel centres), then the maximum
        over k is taken, then the sigmoid. That is the OR of the k masks at 0.5.

    The segmentation branch is FCN-32s up to fc7, with weights of its own. At width 1
    there are 272,618,088 parameters, all trainable: 138,357,544 in the conditioning
    branch, as many as in VGG-16, and 134,260,544 in the segmentation branch.

    With AlexNet (section 7.1) both branches are AlexNet's. With an EfficientNet both
    branches end with stage 6. The conditioning branch works at the size of the image,
    and the mean over positions and one dense layer take the place of fc6 to fc8. Batch
    normalization is frozen, because a training step may see a single image.

    Args:
      image_size: height and width in pixels, or one number for both; divisible by 32.
        (The paper's queries are about 500.)
      backbone: one of `features.BACKBONES`.
      weights: None for random weights, or "imagenet" for both branches; with 1000
        `hashed` for VGG16's fc8 too.
      width: VGG16's factor on the number of channels, 1 in the paper.
      hashed: length of the vector that weight hashing maps to w and b.
      dilated: the segmentation branch at stride 8 (the paper's Dilated-FCN; VGG16
        only), see `vgg.vgg16_fcn`.
      hash_seed: decides the fixed random rule of weight hashing.
      dropout: VGG16's rate after fc6 and fc7, in both branches.
      dtype: of all weights and activations: "float32", or "float64" for proofs.

    Returns:
      A conditioned network (see `conditioned`) for one class. The guide is [k, C+1], w
      and then b of each support image. The logits are 0 and the score, so their softmax
      is the sigmoid of the score. Layers and variables of the branches have names that
      start with "conditioning_" and "segmentation_"; the output of
      "conditioning_fc8" within the former is what is hashed.

    Raises:
      UserError: an argument outside the above, or ImageNet weights that cannot be
        downloaded.
    """
    size = parse_image_size(image_size)
    check_common(weights, dtype, files=backbone == alexnet.NAME)
    check_backbone(backbone, width, dilated)
    for name, value, least in ("hashed", hashed, 1), ("hash_seed", hash_seed, 0):
        whole = isinstance(value, int) and value >= least
        check(whole, name, f"a whole number from {least}", value)
    with dtype_scope(dtype):
        inputs, images, masks, query = make_inputs(size, dtype)
        options = {"width": width, "dropout": dropout, "weights": weights}
        network = dense_features(
            backbone,
            size,
            dilated=dilated,
            prefix=SEGMENTATION,
            frozen_normalization=True,
            **options,
        )
        preprocess, encode = _cut(*network, SEGMENTATION)
        features = encode(preprocess(query))
        if backbone == vgg.NAME:
            network = vgg.vgg16_classifier(hashed, prefix=CONDITIONING, **options)
        elif backbone == alexnet.NAME:
            options |= {"prefix": CONDITIONING}
            network = alexnet.alexnet_classifier(hashed, **options)
        else:
            network = _pooled_classifier(hashed, backbone, size, weights)
        preprocess, encode = _cut(*network, CONDITIONING)
        x = ForegroundOnly(name=f"{CONDITIONING}mask")([preprocess(images), masks])
        if tuple(encode.input_shape[1:3]) != size:
            x = Resize(*encode.input_shape[1:3], name=f"{CONDITIONING}resize")(x)
        hashing = WeightHashing(
            features.shape[-1] + 1, hash_seed, name=f"{CONDITIONING}hashing"
        )
        guide = mark_guide(hashing(encode(x)))
        x = PixelClassifiers(name="scores")([guide, features])
        x = Resize(*size, name="upsample")(x)
        x = MaximumOverShots(name="any_shot")(x)
        logits = BackgroundLogit(name="logits")(x)
    return keras.Model(inputs, logits, name="oslsm")


def _pooled_classifier(outputs: int, backbone: str, size, weights: str | None):
    images, x = dense_features(
        backbone, size, weights, prefix=CONDITIONING, frozen_normalization=True
    )
    x = keras.layers.GlobalAveragePooling2D(name=f"{CONDITIONING}pool")(x)
    # Features have no bound: from a usual kernel the first scores are in the tens.
    small = keras.initializers.RandomNormal(stddev=1e-3)
    fc8 = keras.layers.Dense(
        outputs, kernel_initializer=small, name=f"{CONDITIONING}fc8"
    )
    return images, fc8(x)


def _cut(images, outputs, prefix: str) -> tuple[keras.layers.Layer, keras.Model]:
    """Returns a branch's preprocessing, and all that follows it as one layer."""
    preprocessing = keras.Model(images, outputs).get_layer(f"{prefix}preprocessing")
    rest = keras.Model(preprocessing.output, outputs, name=f"{prefix}encoder")
    return preprocessing, rest
