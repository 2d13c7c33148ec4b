"""Guided networks (Rakelly et al., "Few-shot segmentation propagation with guided
networks"; the sections are those of "Meta-learning to guide segmentation").

    z(s)  = sum_i phi(x)_i m(s)_i / sum_i m(s)_i     s is + or -, section 4.1
    score = f(phi(query) + tile(z(+), z(-)))         + stacks channels, section 4.2

or, ours, with u(x) = x / |x| and * elementwise:

    score = f(C u(phi(query)) * u(z(+)) + C u(phi(query)) * u(z(-)))

phi are the features of the support and of the query, from the same network. m(s) is the
annotation of the sign s at the size of the features; nothing else depends on the
annotations. A shot without annotations of a sign is left out of that sign's average.

The second score depends only on how similar query and guide are. The first depends on
the features of the query as well, and can learn what objects of its training data look
like whatever the guide is: trained on icons it finds icons, and next to nothing in
photographs.
"""

from typing import NamedTuple

import keras
import tensorflow as tf

from efficientlab_tf.errors import UserError
from efficientlab_tf.models import alexnet, backbones, hub, vgg
from efficientlab_tf.models.arguments import check, check_common, parse_image_size
from efficientlab_tf.models.backbones import dtype_scope
from efficientlab_tf.models.conditioned import (
    CONDITIONING,
    between,
    make_inputs,
    mark_guide,
    split,
)
from efficientlab_tf.models.features import dense_features
from efficientlab_tf.models.layers import BackgroundLogit, Resize

RELATIONS = ("stack", "product")
"""How a guide and features are combined: the first score above, and the second."""
FUSIONS = ("late_global", "late", "early", "early_local")
"""See `guided`."""
FEATURES = "features"
SUPPORT_FEATURES = "support_features"
QUERY_FEATURES = "query_features"
ANNOTATIONS = "annotations"

_PACKAGE = "efficientlab_tf"
_HUB_STAGE = 6
_POSITIVE, _NEGATIVE = 1, 0


@keras.saving.register_keras_serializable(package=_PACKAGE)
class AnnotationMaps(keras.layers.Layer):
    """m(+) and m(-): the fraction of each cell's pixels with an annotation of the sign.

    Maps masks [k, H, W], 1 positive, 0 negative, all else unlabelled, to
    [k, height, width, 2] by the mean over cells (area interpolation: bilinear
    interpolation to a smaller size would lose most points).

    Args:
      height: a divisor of H.
      width: a divisor of W.
      scale: factor on the result.
    """

    def __init__(self, height: int, width: int, scale: float = 1.0, **kwargs):
        super().__init__(**kwargs)
        self.height = height
        self.width = width
        self.scale = scale

    def call(self, inputs):
        _, height, width = inputs.shape
        cell = height // self.height, width // self.width
        signs = tf.stack([inputs == _POSITIVE, inputs == _NEGATIVE], axis=-1)
        shape = [-1, self.height, cell[0], self.width, cell[1], 2]
        signs = tf.reshape(tf.cast(signs, inputs.dtype), shape)
        return self.scale * tf.reduce_mean(signs, axis=[2, 4])

    def get_config(self):
        sizes = {"height": self.height, "width": self.width, "scale": self.scale}
        return {**super().get_config(), **sizes}


@keras.saving.register_keras_serializable(package=_PACKAGE)
class GlobalGuide(keras.layers.Layer):
    """z(+) and then z(-), [1, 2C], of features [k, h, w, C] and m [k, h, w, 2].

    Each is the mean over the shots with annotations of its sign, and zero if there are
    none.
    """

    def call(self, inputs):
        features, maps = inputs
        mass = tf.reduce_sum(maps, axis=[1, 2])
        masked = tf.einsum("khwc,khws->ksc", features, maps)
        shots = tf.math.divide_no_nan(masked, mass[..., tf.newaxis])
        annotated = tf.reduce_sum(tf.cast(mass > 0, maps.dtype), axis=0)
        guides = tf.math.divide_no_nan(
            tf.reduce_sum(shots, axis=0), annotated[:, tf.newaxis]
        )
        return tf.reshape(guides, [1, 2 * features.shape[-1]])


@keras.saving.register_keras_serializable(package=_PACKAGE)
class LocalGuide(keras.layers.Layer):
    """z(+) and then z(-) at their places, [1, h, w, 2C]; inputs as `GlobalGuide`.

    Here m(s) is divided by m(+) + m(-), so that a cell with one annotated pixel counts
    as much as one with all. The mean over shots is taken place by place.
    """

    def call(self, inputs):
        features, maps = inputs
        known = tf.reduce_sum(maps, axis=-1, keepdims=True)
        weights = tf.math.divide_no_nan(maps, known)
        masked = tf.einsum("khwc,khws->hwsc", features, weights)
        annotated = tf.reduce_sum(tf.cast(maps > 0, maps.dtype), axis=0)
        guides = tf.math.divide_no_nan(masked, annotated[..., tf.newaxis])
        _, height, width, channels = features.shape
        return tf.reshape(guides, [1, height, width, 2 * channels])


@keras.saving.register_keras_serializable(package=_PACKAGE)
class AnnotatedMean(keras.layers.Layer):
    """The mean [1, C] of features [k, h, w, C] over places and annotated shots.

    Called on the features and m [k, H, W, 2]; zero without any annotation.
    """

    def call(self, inputs):
        features, maps = inputs
        annotated = tf.reduce_max(maps, axis=[1, 2, 3]) > 0
        weights = tf.cast(annotated, features.dtype)
        total = tf.linalg.matvec(
            tf.reduce_mean(features, axis=[1, 2]), weights, transpose_a=True
        )
        mean = tf.math.divide_no_nan(total, tf.reduce_sum(weights))
        return mean[tf.newaxis]


@keras.saving.register_keras_serializable(package=_PACKAGE)
class AnnotatedPlaces(keras.layers.Layer):
    """As `AnnotatedMean`, the mean over shots at each place: [1, h, w, C]."""

    def call(self, inputs):
        features, maps = inputs
        annotated = tf.reduce_max(maps, axis=[1, 2, 3]) > 0
        weights = tf.cast(annotated, features.dtype)
        total = tf.einsum("khwc,k->hwc", features, weights)
        return tf.math.divide_no_nan(total, tf.reduce_sum(weights))[tf.newaxis]

    def compute_output_shape(self, input_shape):
        return (None, *input_shape[0][1:])


@keras.saving.register_keras_serializable(package=_PACKAGE)
class TileGuide(keras.layers.Layer):
    """Appends a guide to the channels of features [q, h, w, C].

    Called on the guide and the features. The guide is [n, D], the same at every place,
    or [n, h, w, D]; n is 1, for all features, or q.
    """

    def call(self, inputs):
        guide, features = inputs
        guide = _with_places(guide)
        shape = tf.concat([tf.shape(features)[:-1], [guide.shape[-1]]], axis=0)
        return tf.concat([features, tf.broadcast_to(guide, shape)], axis=-1)


@keras.saving.register_keras_serializable(package=_PACKAGE)
class RelateGuide(keras.layers.Layer):
    """C u(features) u(z(s)) for s = + and then -, [q, h, w, 2C]; called as `TileGuide`.

    Over the channels of a sign it adds up to C times the cosine of both vectors.
    """

    def call(self, inputs):
        guide, features = inputs
        guide = _with_places(guide)
        unit = features.shape[-1] * tf.math.l2_normalize(features, -1)
        signs = tf.split(guide, 2, axis=-1)
        return tf.concat([unit * tf.math.l2_normalize(z, -1) for z in signs], axis=-1)


class Parts(NamedTuple):
    """The parts of a guided network, which share its layers and variables.

    Attributes:
      features: images [n, H, W, 3] to features [n, h, w, C]; those of the queries.
      guide: with late fusion "support_features", which `features` makes as well, and
        "annotations", masks [k, H, W], to the guide. With early fusion
        "support_images" and "support_masks" to the guide.
      score: "guide" and "query_features" to logits [q, H, W, 2].
      late: whether the fusion is late.
    """

    features: keras.Model
    guide: keras.Model
    score: keras.Model
    late: bool


def guided(
    *,
    image_size: int | tuple[int, int] = 224,
    backbone: str = "VGG16",
    fusion: str = "late_global",
    relation: str = "stack",
    freeze_features: bool = False,
    weights: str | None = None,
    width: float = 1.0,
    dilated: bool = False,
    channels: int = 256,
    dropout: float = 0.5,
    dtype: str = "float32",
) -> keras.Model:
    """Builds a guided network for one class; several classes need a guide for each.

    A support mask has 1 where a pixel is of the class, 0 where it is not, and 255 where
    that is unknown. phi are the features of fc7 (VGG16) or of stage 6 (EfficientNets,
    batch normalization frozen); see `features.dense_features`. f is a 1x1 and a 3x3
    convolution with ReLU and a 1x1 convolution to one score; the decoder is bilinear
    and fixed, with half-pixel centres. fusion:

      - "late_global": the rule at the top of the module, the guide [1, 2C].
      - "late": the guide has places, [1, h, w, 2C], for queries that are the support
        images, as in interactive segmentation. See `LocalGuide`.
      - "early" (Xu et al., 2016): a second network phi_S, with weights of its own, gets
        the preprocessed image with both annotation maps as further channels. The guide
        is the mean of its features over places and annotated shots, [1, C]. The names
        of layers and variables of phi_S start with "conditioning_".
      - "early_local": the same with places, [1, h, w, C], as DIOS (Xu et al., 2016) has
        it, whose queries are the support images.

    relation "stack" is the paper's score, "product" ours, with late fusion.

    With VGG16 at width 1 there are 137,996,865 parameters; early: 271,209,985.

    Args:
      image_size: height and width in pixels, or one number for both; divisible by 32.
      backbone: one of `features.BACKBONES`; with late fusion also of KerasHub, see
        `hub`, whose stage 6 is taken.
      fusion: one of `FUSIONS`.
      relation: one of `RELATIONS`.
      freeze_features: whether phi (not phi_S) is kept fixed in training.
      weights: None for random weights, or "imagenet" for the features. The kernels of
        phi_S that act on the annotations are always random.
      width: VGG16's factor on the number of channels, 1 in the paper.
      dilated: VGG16 at stride 8 instead of 32; see `vgg.vgg16_fcn`.
      channels: of the hidden layers of f.
      dropout: VGG16's rate behind fc6 and fc7.
      dtype: of all weights and activations: "float32", or "float64" for proofs.

    Returns:
      A conditioned network (see `conditioned`). The logits are 0 and the score, which
      is finite but meaningless without annotations.

    Raises:
      UserError: an argument outside the above, or ImageNet weights that cannot be
        downloaded.
    """
    size = parse_image_size(image_size)
    check_common(weights, dtype, files=backbone == alexnet.NAME)
    check(fusion in FUSIONS, "fusion", f"one of {', '.join(FUSIONS)}", fusion)
    early = fusion.startswith("early")
    relations = ("stack",) if early else RELATIONS
    expected = f"one of {', '.join(relations)} (fusion {fusion})"
    check(relation in relations, "relation", expected, relation)
    whole = isinstance(channels, int) and channels >= 1
    check(whole, "channels", "a whole number from 1", channels)
    hub.check_frozen(backbone, freeze_features)
    options = {
        "weights": weights,
        "width": width,
        "dilated": dilated,
        "dropout": dropout,
        "frozen_normalization": True,
    }
    with dtype_scope(dtype):
        inputs, images, masks, query = make_inputs(size, dtype)
        if hub.is_hub(backbone):
            encoder = backbones.build_encoder(backbone, size, 0.0, weights)
            network = encoder.images, encoder.stages[_HUB_STAGE]
        else:
            network = dense_features(backbone, size, **options)
        features = keras.Model(*network, name=FEATURES)
        if freeze_features:
            for layer in features.layers:
                layer.trainable = False
        identity = keras.layers.Identity
        query = identity(name=QUERY_FEATURES)(features(query))
        masks = identity(name=ANNOTATIONS)(masks)
        if early:
            mean = AnnotatedMean if fusion == "early" else AnnotatedPlaces
            guide = _early_guide(backbone, size, options, images, masks, mean)
        else:
            support = identity(name=SUPPORT_FEATURES)(features(images))
            maps = AnnotationMaps(*support.shape[1:3], name="annotation_maps")(masks)
            pool = GlobalGuide if fusion == "late_global" else LocalGuide
            guide = pool(name="fusion")([support, maps])
        meet = TileGuide if relation == "stack" else RelateGuide
        x = meet(name="tile")([mark_guide(guide), query])
        for name, kernel_size in ("head_fuse", 1), ("head_context", 3):
            x = keras.layers.Conv2D(
                channels, kernel_size, padding="same", activation="relu", name=name
            )(x)
        x = keras.layers.Conv2D(1, 1, name="head_score")(x)
        x = Resize(*size, name="upsample")(x)
        logits = BackgroundLogit(name="logits")(x)
    return keras.Model(inputs, logits, name="guided")


def _with_places(guide: tf.Tensor) -> tf.Tensor:
    """Gives a guide without places, [n, D], the shape [n, 1, 1, D]."""
    return guide[:, tf.newaxis, tf.newaxis] if guide.shape.rank == 2 else guide


def is_late(model: keras.Model) -> bool:
    """Whether a network makes the features of an image before it is annotated."""
    return {FEATURES, QUERY_FEATURES, ANNOTATIONS, SUPPORT_FEATURES} <= {
        layer.name for layer in model.layers
    }


def parts(model: keras.Model) -> Parts:
    """Splits a guided network, so that a change of annotations needs no new features.

    Args:
      model: of `guided`, or another with late fusion, such as `closed_form`.

    Raises:
      UserError: another network.
    """
    names = {layer.name for layer in model.layers}
    if not {FEATURES, QUERY_FEATURES, ANNOTATIONS} <= names:
        raise UserError(
            f"network {model.name}: expected a guided network, received another; train "
            "one with `network` guided"
        )

    def output(name: str) -> keras.KerasTensor:
        return model.get_layer(name).output

    late = SUPPORT_FEATURES in names
    if late:
        cuts = {name: output(name) for name in (SUPPORT_FEATURES, ANNOTATIONS)}
        guide = between(cuts, output("guide"), name="guided_pool")
    else:
        guide = split(model)[0]
    cuts = {"guide": output("guide"), QUERY_FEATURES: output(QUERY_FEATURES)}
    score = between(cuts, model.output, name="guided_score")
    return Parts(model.get_layer(FEATURES), guide, score, late)


def _early_guide(backbone: str, size, options: dict, images, masks, mean: type):
    network = dense_features(backbone, size, prefix=CONDITIONING, **options)
    preprocessing = keras.Model(*network).get_layer(f"{CONDITIONING}preprocessing")
    # As large as the image's channels are behind their preprocessing.
    scale = 128.0 if backbone in (vgg.NAME, alexnet.NAME) else 1.0
    maps = AnnotationMaps(*size, scale, name="annotation_maps")(masks)
    x = keras.layers.Concatenate(name="stack")([preprocessing(images), maps])
    narrow = keras.Model(preprocessing.output, network[1])
    wide = keras.models.clone_model(
        narrow,
        input_tensors=keras.Input(x.shape[1:], dtype=x.dtype),
        clone_function=lambda layer: type(layer).from_config(layer.get_config()),
    )
    for layer in narrow.layers:
        if not layer.weights:
            continue
        copy = wide.get_layer(layer.name)
        for source, target in zip(layer.weights, copy.weights, strict=True):
            value = tf.convert_to_tensor(source)
            if source.shape != target.shape:
                added = tf.convert_to_tensor(target)[:, :, source.shape[2] :]
                value = tf.concat([value, added], axis=2)
            target.assign(value)
    encoder = keras.Model(wide.input, wide.output, name=f"{CONDITIONING}encoder")
    return mean(name="fusion")([encoder(x), maps])
