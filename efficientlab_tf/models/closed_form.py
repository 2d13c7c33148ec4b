"""Closed-form networks: the inner problem is solved inside the network.

    x_i    = gamma_s F_s(image)_i / |F_s(image)_i| of each stage s of a set S, and a 1
    w_S    = argmin_w  - sum_i (a_i log sigma(w x_i) + b_i log sigma(-w x_i))
                       + lambda |w|^2 / 2
    a_i    = p_i^4 / (2 sum_j p_j^4)  p_i: positive part of the known pixels of cell i
    b_i    = n_i^4 / (2 sum_j n_j^4)  n_i = 1 - p_i; no known pixel: a_i = b_i = 0
    lambda = exp(alpha) m^-beta       m: number of cells with a known pixel

    z_S    = w_S x of the query's cells
    logits = 0 and decoder(all z_S, colours of the query; see `refinement`)

The sum over i is over the cells of all shots: a logistic regression that is regularised
and balanced between classes. Cells on a border say little, because of the fourth power:
a balanced regression would take those that are mostly background for objects. A thing
that fills no cell is still seen. Newton's method solves it, from w = 0, in a few steps:

    w <- w + (X' D X + lambda 1)^-1 (X' (a - (a + b) sigma(X w)) - lambda w)
    D  = diag((a + b) sigma(X w) sigma(-X w))

The first step alone is ridge regression on targets +1 and -1, the rule of R2-D2
(Bertinetto et al. 2019). The steps are unrolled and differentiated exactly. What is
learned: gamma, alpha, beta and the decoder, and the encoder if it is not frozen; w_S is
solved for each task, as the few-shot learner of Bhat et al. (2020) is.
"""

import math
from collections.abc import Sequence

import keras
import tensorflow as tf

from efficientlab_tf.models import backbones, hub
from efficientlab_tf.models.arguments import check, check_common, parse_image_size
from efficientlab_tf.models.backbones import build_encoder, dtype_scope
from efficientlab_tf.models.conditioned import make_inputs, mark_guide
from efficientlab_tf.models.guided import (
    ANNOTATIONS,
    FEATURES,
    QUERY_FEATURES,
    SUPPORT_FEATURES,
    AnnotationMaps,
)
from efficientlab_tf.models.layers import BackgroundLogit, BatchNormalization, Resize
from efficientlab_tf.models.newton import ScoreMap, SolveClassifier
from efficientlab_tf.models.parts import declare_decoder
from efficientlab_tf.models.refinement import at, decode, joined

declare_decoder("closed_form", "decoder_")

STAGES = "4,6,7/2,3,4,6"
"""Sets of stages, see `parse_stages`."""

_PACKAGE = "efficientlab_tf"
_FINEST = 4
"""Smallest stride of cells, in pixels: the price of a solve grows with their number."""
_COLORS = 0
"""Where the other maps are stages: the picture itself, at half resolution."""


@keras.saving.register_keras_serializable(package=_PACKAGE)
class UnitFeatures(keras.layers.Layer):
    """Features [n, h, w, C] at unit length times a learned gain of each channel."""

    def build(self, input_shape):
        self.gamma = self.add_weight(
            shape=(input_shape[-1],), initializer="ones", name="gamma"
        )

    def call(self, inputs):
        return tf.math.l2_normalize(inputs, -1) * self.gamma

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable(package=_PACKAGE)
class Unpack(keras.layers.Layer):
    """One of the maps, [n, h, w, C], that lie behind each other in vectors [n, F].

    Args:
      first: place of the map.
      shape: h, w and C.
    """

    def __init__(self, first: int, shape: Sequence[int], **kwargs):
        super().__init__(**kwargs)
        self.first = first
        self.shape = tuple(shape)

    def call(self, inputs):
        own = inputs[:, self.first : self.first + math.prod(self.shape)]
        return tf.reshape(own, [-1, *self.shape])

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.shape)

    def get_config(self):
        return {**super().get_config(), "first": self.first, "shape": self.shape}


def parse_stages(stages: str | Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    """Reads sets of stages, such as "4,6,7/2,3,4,6".

    Raises:
      UserError: not of that form, no stage, a stage twice, or an unknown one.
    """
    sets = stages.split("/") if isinstance(stages, str) else stages
    parsed = []
    for one in sets:
        numbers = one.split(",") if isinstance(one, str) else one
        try:
            parsed.append(tuple(int(number) for number in numbers))
        except ValueError:
            parsed.append(())
    known = set(backbones.ALL_STAGES)
    check(
        bool(parsed)
        and all(
            one and set(one) <= known and len(set(one)) == len(one) for one in parsed
        ),
        "stages",
        f"stages out of {backbones.ALL_STAGES} joined by commas, in sets joined by "
        f"slashes, such as {STAGES}",
        stages,
    )
    return tuple(parsed)


def closed_form(
    *,
    image_size: int | tuple[int, int] = 224,
    backbone: str = backbones.LITE,
    weights: str | None = None,
    stages: str | Sequence[Sequence[int]] = STAGES,
    newton_steps: int = 4,
    freeze_features: bool = False,
    freeze_classifiers: bool = False,
    dtype: str = "float32",
) -> keras.Model:
    """Builds a closed-form network for one class.

    Several classes are told apart by a guide for each. A support mask has 1 where a
    pixel is of the class, 0 where it is not, and 255 where nobody said, so dense masks
    and points are one. The guide, [1, sum of C_S + 1], is the w_S of all sets behind
    each other.

    The cells of a set are those of its finest stage, but not smaller than 4 pixels;
    other stages are averaged or interpolated to them. Untrained, the network is the
    mean of its logistic regressions and of these drawn to the picture's edges. The
    decoder works at half resolution, from where logits are interpolated bilinearly.

    Args:
      image_size: height and width in pixels, or one number for both; divisible by 32.
      backbone: one of `backbones.BACKBONES`, or of KerasHub, see `hub`; its batch
        normalization is frozen.
      weights: of the encoder, None (random) or "imagenet".
      stages: the sets S, see `parse_stages`. The encoder ends with the last of all.
      newton_steps: at least 1, which is ridge regression.
      freeze_features: whether the encoder stays as it is in training.
      freeze_classifiers: whether gamma, alpha and beta stay as they are, so that no
        gradient goes through the solve; the encoder must be frozen too.
      dtype: of all weights and activations: "float32", or "float64" for proofs.

    Returns:
      A conditioned network (see `conditioned`) whose logits are 0 and the score.

    Raises:
      UserError: an argument outside the above, or ImageNet weights that cannot be
        downloaded.
    """
    size = parse_image_size(image_size)
    check_common(weights, dtype)
    sets = parse_stages(stages)
    whole = isinstance(newton_steps, int) and newton_steps >= 1
    check(whole, "newton_steps", "a whole number from 1", newton_steps)
    check(
        freeze_features or not freeze_classifiers,
        *("freeze_features", "True with `freeze_classifiers`", freeze_features),
    )
    layers = keras.layers
    hub.check_frozen(backbone, freeze_features)
    learned = not freeze_classifiers
    with dtype_scope(dtype):
        inputs, images, masks, query = make_inputs(size, dtype)
        encoder, shapes = _encoder(backbone, size, weights, sets, freeze_features)
        # Named as in guided networks, so that pictures can be read before they are
        # annotated.
        support = layers.Identity(name=SUPPORT_FEATURES)(encoder(images))
        support = _unpacked(support, shapes)
        query = layers.Identity(name=QUERY_FEATURES)(encoder(query))
        query = _unpacked(query, shapes)
        masks = layers.Identity(name=ANNOTATIONS)(masks)
        gains = [
            {
                stage: UnitFeatures(name=f"set{i}_stage{stage}", trainable=learned)
                for stage in one
            }
            for i, one in enumerate(sets)
        ]
        guides, scores, first = [], [], 0
        for i, own in enumerate(gains):
            x = _cells(support, own, size)
            maps = AnnotationMaps(*x.shape[1:3], name=f"set{i}_annotations")(masks)
            solver = SolveClassifier(
                newton_steps, name=f"set{i}_solve", trainable=learned
            )
            guides.append(solver([x, maps]))
        guide = mark_guide(joined(guides))
        for i, own in enumerate(gains):
            x = _cells(query, own, size)
            scores.append(ScoreMap(first, name=f"set{i}_score")([guide, x]))
            first += x.shape[-1] + 1
        x = decode(scores, query[_COLORS])
        logits = BackgroundLogit(name="logits")(Resize(*size, name="upsample")(x))
    return keras.Model(inputs, logits, name="closed_form")


def _encoder(
    backbone: str,
    size: tuple[int, int],
    weights: str | None,
    sets: tuple[tuple[int, ...], ...],
    frozen: bool,
) -> tuple[keras.Model, dict[int, tuple[int, int, int]]]:
    """Images to all maps that are needed, in one vector each, and their shapes."""
    layers = keras.layers
    wanted = sorted({stage for one in sets for stage in one})
    encoder = build_encoder(backbone, size, 0.0, weights, last_stage=wanted[-1])
    colors = layers.Rescaling(1 / 255)(layers.AveragePooling2D(2)(encoder.images))
    maps = {_COLORS: colors} | {stage: encoder.stages[stage] for stage in wanted}
    packed = layers.Concatenate()([layers.Flatten()(x) for x in maps.values()])
    model = keras.Model(encoder.images, packed, name=FEATURES)
    for layer in model.layers:
        if frozen or isinstance(layer, BatchNormalization):
            layer.trainable = False
    return model, {key: tuple(x.shape[1:]) for key, x in maps.items()}


def _unpacked(
    features: keras.KerasTensor, shapes: dict[int, tuple[int, int, int]]
) -> dict[int, keras.KerasTensor]:
    """The maps that lie behind each other in one vector a picture."""
    maps, first = {}, 0
    for stage, shape in shapes.items():
        maps[stage] = Unpack(first, shape)(features)
        first += math.prod(shape)
    return maps


def _cells(
    features: dict[int, keras.KerasTensor],
    gains: dict[int, UnitFeatures],
    size: tuple[int, int],
) -> keras.KerasTensor:
    """Brings the stages of a set to its cells, at unit length, behind each other."""
    stride = max(_FINEST, min(backbones.STRIDES[stage] for stage in gains))
    grid = size[0] // stride, size[1] // stride
    maps = [gain(at(features[s], grid)) for s, gain in gains.items()]
    return joined(maps)
