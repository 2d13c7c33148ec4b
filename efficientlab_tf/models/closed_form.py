"""Closed-form networks: the inner problem is solved inside the network.

    x_i    = gamma_s F_s(image)_i / |F_s(image)_i| of each stage s of a set S, and a 1
    w_S    = argmin_w  - sum_i (a_i log sigma(w x_i) + b_i log sigma(-w x_i))
                       + lambda |w|^2 / 2
    a_i    = p_i^4 / (2 sum_j p_j^4)  p_i: positive part of the known pixels of cell i
    b_i    = n_i^4 / (2 sum_j n_j^4)  n_i = 1 - p_i; no known pixel: a_i = b_i = 0
    lambda = exp(alpha) m^-beta       m: number of cells with a known pixel

    z_S    = w_S x of the query's cells
    logits = 0 and sum_S c_S z_S + decoder(tanh(z_S / 2) of all S; stages 2 and 3)

The sum over i is over the cells of all shots: a logistic regression that is regularised
and balanced between classes. Cells on a border say little, because of the fourth power:
a balanced regression would take those that are mostly background for objects. A thing
that fills no cell is still seen. Newton's method solves it, from w = 0, in a few steps:

    w <- w + (X' D X + lambda 1)^-1 (X' (a - (a + b) sigma(X w)) - lambda w)
    D  = diag((a + b) sigma(X w) sigma(-X w))

The first step alone is ridge regression on targets +1 and -1, the rule of R2-D2
(Bertinetto et al. 2019). The steps are unrolled and differentiated exactly. What is
learned: gamma, alpha, beta, c and the decoder, and the encoder if it is not frozen; w_S
is solved for each task, as the few-shot learner of Bhat et al. (2020) is.

The decoder sees which cells are like the support's and where edges are (stages 2 and
3), and never the features that tell one object from another: what to segment it can
know from the support set alone.
"""

from collections.abc import Sequence

import keras
import tensorflow as tf

from efficientlab_tf.models import backbones
from efficientlab_tf.models.arguments import check, check_common, parse_image_size
from efficientlab_tf.models.backbones import build_encoder, dtype_scope
from efficientlab_tf.models.conditioned import make_inputs, mark_guide
from efficientlab_tf.models.guided import AnnotationMaps
from efficientlab_tf.models.layers import BackgroundLogit, BatchNormalization, Resize

STAGES = "4,6,7/2,3,4,6"
"""Sets of stages, see `parse_stages`."""

_PACKAGE = "efficientlab_tf"
_FINEST = 4
"""Smallest stride of cells, in pixels: the price of a solve grows with their number."""
_SHARPNESS = 4
_LOW_LEVEL = (3, 2)
"""Stages that the decoder sees, coarse to fine."""
_WIDTHS = (32, 32, 16)
"""Channels of the decoder at strides 8, 4 and 2."""


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


@tf.custom_gradient
def _gram(x: tf.Tensor):
    """x' x, [D, D]. Its gradient is one product: TensorFlow's takes two."""

    def gradient(upstream):
        return x @ (upstream + tf.transpose(upstream))

    return tf.matmul(x, x, transpose_a=True), gradient


def solve(
    features: tf.Tensor,
    positive: tf.Tensor,
    negative: tf.Tensor,
    strength: tf.Tensor,
    steps: int,
) -> tf.Tensor:
    """Takes Newton steps of the logistic regression at the top, from w = 0.

    Args:
      features: X, float [m, D].
      positive: a, float [m, 1], not negative; not differentiated.
      negative: b, likewise. With a = b = 0 a row has no influence.
      strength: lambda, a positive scalar.
      steps: number of steps, at least 1.

    Returns:
      w, [D, 1].
    """
    total = positive + negative
    root = tf.sqrt(total)
    ridge = strength * tf.eye(features.shape[-1], dtype=features.dtype)
    w = tf.transpose(tf.zeros_like(features[:1]))
    for _ in range(steps):
        z = features @ w
        # sqrt(sigma(z) sigma(-z)); neither this nor its gradient can overflow.
        spread = tf.exp(0.5 * (tf.math.log_sigmoid(z) + tf.math.log_sigmoid(-z)))
        # Both factors alike: the product has no negative eigenvalue, however coarsely a
        # GPU multiplies (TF32), so the decomposition exists.
        hessian = _gram(features * (root * spread)) + ridge
        residual = positive - total * tf.sigmoid(z)
        slope = tf.matmul(features, residual, transpose_a=True) - strength * w
        w += tf.linalg.cholesky_solve(tf.linalg.cholesky(hessian), slope)
    return w


@keras.saving.register_keras_serializable(package=_PACKAGE)
class SolveClassifier(keras.layers.Layer):
    """w_S, [1, C + 1] with the bias last, of a support set.

    Called on features [k, h, w, C] and the positive and negative part of each cell's
    pixels, [k, h, w, 2] (`AnnotationMaps`). A cell counts as much with one known pixel
    as with all. With pixels of one label only w is finite and says that label; with
    none it is zero.

    Args:
      steps: Newton steps, at least 1.
    """

    def __init__(self, steps: int, **kwargs):
        super().__init__(**kwargs)
        self.steps = steps

    def build(self, input_shape):
        # lambda = e / m is scikit-learn's C = 1 / e: it adds up cells, we average.
        self.alpha = self.add_weight(shape=(), initializer="ones", name="alpha")
        self.beta = self.add_weight(shape=(), initializer="ones", name="beta")

    def call(self, inputs):
        features, maps = inputs
        x = tf.reshape(features, [-1, features.shape[-1]])
        x = tf.concat([x, tf.ones_like(x[:, :1])], axis=1)
        maps = tf.reshape(maps, [-1, 2])
        known = tf.reduce_sum(maps, axis=1, keepdims=True)
        parts = tf.math.divide_no_nan(maps, known) ** _SHARPNESS
        balanced = tf.math.divide_no_nan(parts, 2 * tf.reduce_sum(parts, axis=0))
        count = tf.reduce_sum(tf.cast(known > 0, x.dtype))
        strength = tf.exp(self.alpha - self.beta * tf.math.log(tf.maximum(count, 1)))
        w = solve(x, balanced[:, :1], balanced[:, 1:], strength, self.steps)
        return tf.transpose(w)

    def compute_output_shape(self, input_shape):
        return (None, input_shape[0][-1] + 1)

    def get_config(self):
        return {**super().get_config(), "steps": self.steps}


@keras.saving.register_keras_serializable(package=_PACKAGE)
class ScoreMap(keras.layers.Layer):
    """z_S, [q, h, w, 1], of the guide and features [q, h, w, C].

    Called on guides [n, D], the w_S of all sets behind each other: one for all queries,
    or as many as these.

    Args:
      first: place of w_S in the guide.
    """

    def __init__(self, first: int, **kwargs):
        super().__init__(**kwargs)
        self.first = first

    def call(self, inputs):
        guide, features = inputs
        _, height, width, channels = features.shape
        w = guide[:, self.first : self.first + channels, tf.newaxis]
        bias = guide[:, self.first + channels, tf.newaxis, tf.newaxis]
        scores = tf.reshape(features, [-1, height * width, channels]) @ w + bias
        return tf.reshape(scores, [-1, height, width, 1])

    def compute_output_shape(self, input_shape):
        return (*input_shape[1][:-1], 1)

    def get_config(self):
        return {**super().get_config(), "first": self.first}


@keras.saving.register_keras_serializable(package=_PACKAGE)
class Confidence(keras.layers.Layer):
    """tanh(z / 2): scores between -1 and 1, however easy a task is to separate."""

    def call(self, inputs):
        return tf.tanh(inputs / 2)

    def compute_output_shape(self, input_shape):
        return input_shape


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
    dtype: str = "float32",
) -> keras.Model:
    """Builds a closed-form network for one class.

    Several classes are told apart by a guide for each. A support mask has 1 where a
    pixel is of the class, 0 where it is not, and 255 where nobody said, so dense masks
    and points are one. The guide, [1, sum of C_S + 1], is the w_S of all sets behind
    each other.

    The cells of a set are those of its finest stage, but not smaller than 4 pixels;
    other stages are averaged or interpolated to them. The decoder's last convolution
    starts at zero and the c_S with the mean: untrained, the network is the mean of its
    logistic regressions. It refines to half resolution, from where logits are
    interpolated bilinearly.

    Args:
      image_size: height and width in pixels, or one number for both; divisible by 32.
      backbone: one of `backbones.BACKBONES`; its batch normalization is frozen.
      weights: of the encoder, None (random) or "imagenet".
      stages: the sets S, see `parse_stages`. The encoder ends with the last of all.
      newton_steps: at least 1, which is ridge regression.
      freeze_features: whether the encoder stays as it is in training.
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
    layers = keras.layers
    with dtype_scope(dtype):
        inputs, images, masks, query = make_inputs(size, dtype)
        encoder = _encoder(backbone, size, weights, sets, freeze_features)
        support, query = encoder(images), encoder(query)
        gains = [
            {stage: UnitFeatures(name=f"set{i}_stage{stage}") for stage in one}
            for i, one in enumerate(sets)
        ]
        guides, scores, first = [], [], 0
        for i, own in enumerate(gains):
            x = _cells(support, own, size)
            maps = AnnotationMaps(*x.shape[1:3], name=f"set{i}_annotations")(masks)
            solver = SolveClassifier(newton_steps, name=f"set{i}_solve")
            guides.append(solver([x, maps]))
        guide = guides[0] if len(guides) == 1 else layers.Concatenate()(guides)
        guide = mark_guide(guide)
        for i, own in enumerate(gains):
            x = _cells(query, own, size)
            scores.append(ScoreMap(first, name=f"set{i}_score")([guide, x]))
            first += x.shape[-1] + 1
        x = _decode(scores, query, size)
        logits = BackgroundLogit(name="logits")(Resize(*size, name="upsample")(x))
    return keras.Model(inputs, logits, name="closed_form")


def _encoder(
    backbone: str,
    size: tuple[int, int],
    weights: str | None,
    sets: tuple[tuple[int, ...], ...],
    frozen: bool,
) -> keras.Model:
    """Images to the features of all stages that are needed, by stage number."""
    wanted = sorted({stage for one in sets for stage in one} | set(_LOW_LEVEL))
    encoder = build_encoder(backbone, size, 0.0, weights, last_stage=wanted[-1])
    outputs = {str(stage): encoder.stages[stage] for stage in wanted}
    model = keras.Model(encoder.images, outputs, name="features")
    for layer in model.layers:
        if frozen or isinstance(layer, BatchNormalization):
            layer.trainable = False
    return model


def _cells(
    features: dict[str, keras.KerasTensor],
    gains: dict[int, UnitFeatures],
    size: tuple[int, int],
) -> keras.KerasTensor:
    """Brings the stages of a set to its cells, at unit length, behind each other."""
    stride = max(_FINEST, min(backbones.STRIDES[stage] for stage in gains))
    grid = size[0] // stride, size[1] // stride
    maps = [gain(_at(features[str(s)], grid)) for s, gain in gains.items()]
    return maps[0] if len(maps) == 1 else keras.layers.Concatenate()(maps)


def _at(x: keras.KerasTensor, grid: tuple[int, int]) -> keras.KerasTensor:
    """Averages or interpolates to a grid."""
    height, width = x.shape[1:3]
    if height > grid[0]:
        return keras.layers.AveragePooling2D((height // grid[0], width // grid[1]))(x)
    return x if (height, width) == grid else Resize(*grid)(x)


def _decode(
    scores: list[keras.KerasTensor],
    features: dict[str, keras.KerasTensor],
    size: tuple[int, int],
) -> keras.KerasTensor:
    """Scores of all sets to one score at half resolution, [q, H / 2, W / 2, 1]."""
    layers = keras.layers
    confidences = [Confidence()(z) for z in scores]
    x = None
    for depth, width in enumerate(_WIDTHS):
        stride = 8 >> depth
        grid = size[0] // stride, size[1] // stride
        seen = [_at(z, grid) for z in confidences]
        if depth:
            stage = _LOW_LEVEL[depth - 1]
            low = UnitFeatures(name=f"decoder_stage{stage}_unit")(features[str(stage)])
            low = layers.Conv2D(
                width // 2, 1, activation="relu", name=f"decoder_stage{stage}"
            )(low)
            seen += [_at(x, grid), low]
        x = layers.Concatenate()(seen) if len(seen) > 1 else seen[0]
        for i in range(2 if stride == 8 else 1):
            x = layers.Conv2D(
                width,
                3,
                padding="same",
                activation="relu",
                name=f"decoder_stride{stride}_{i}",
            )(x)
    refined = layers.Conv2D(
        1, 1, kernel_initializer="zeros", name="decoder_refinement"
    )(x)
    scores = [_at(z, grid) for z in scores]
    stacked = layers.Concatenate()(scores) if len(scores) > 1 else scores[0]
    mean = layers.Conv2D(
        1,
        1,
        use_bias=False,
        kernel_initializer=keras.initializers.Constant(1 / len(scores)),
        name="decoder_mean",
    )(stacked)
    return layers.Add()([mean, refined])
