"""A Siamese network for dense matching (Shaban et al., 2017, supplement B).

    s(i, j) = sum_c a_c |f_i - g_j|_c / sqrt(C) + b

f_i are the C features of a position of the query and g_j those of a position of the
support set, from the same network and at unit length. a and b are learned (the weighted
L1 distance of Koch et al., 2015), so that sigmoid(s) is the probability that both
positions have the same label. In prediction a position of the query gets the label of
the most similar position of the support set.
"""

import keras
import tensorflow as tf

from efficientlab_tf.errors import UserError
from efficientlab_tf.graphs import untouched
from efficientlab_tf.models import alexnet
from efficientlab_tf.models.arguments import check_common, parse_image_size
from efficientlab_tf.models.backbones import dtype_scope
from efficientlab_tf.models.conditioned import make_inputs, mark_guide
from efficientlab_tf.models.features import dense_features
from efficientlab_tf.models.layers import Resize

_PACKAGE = "efficientlab_tf"
_LABELS = "support_labels"
_SLOPE = 4.0
_SIMILARITY = "similarity"
NEVER = -1e9
"""Similarity to a label that is not in the support set."""


def downsample_labels(masks: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Nearest-neighbour labels [N, height, width] of masks [N, H, W].

    A cell has the label of the pixel in its middle, the lower right of the four there.
    H and W are multiples of height and width.
    """
    rows, columns = masks.shape[1] // height, masks.shape[2] // width
    return masks[:, rows // 2 :: rows, columns // 2 :: columns]


@keras.saving.register_keras_serializable(package=_PACKAGE)
class DownsampleLabels(keras.layers.Layer):
    """`downsample_labels` as a layer."""

    def __init__(self, height: int, width: int, **kwargs):
        super().__init__(**kwargs)
        self.height = height
        self.width = width

    def call(self, inputs):
        return downsample_labels(inputs, self.height, self.width)

    def get_config(self):
        return {**super().get_config(), "height": self.height, "width": self.width}


# AutoGraph would take the decorator off.
@untouched
@tf.custom_gradient
def weighted_l1(query: tf.Tensor, support: tf.Tensor, weights: tf.Tensor):
    """Weighted L1 distances of all pairs: sum_c weights_c |query_i - support_j|_c.

    Computed row by row, forwards and backwards, so that of the n m C differences only
    m C are in memory at a time. It can be differentiated once.

    Args:
      query: float [n, C].
      support: float [m, C].
      weights: float [C].

    Returns:
      Float [n, m].
    """

    def row(x):
        return tf.linalg.matvec(tf.abs(x - support), weights)

    def gradient(upstream):
        def body(i, query_slopes, support_slope, weights_slope):
            difference = query[i] - support
            above = upstream[i][:, None]
            slope = above * tf.sign(difference)
            return (
                i + 1,
                query_slopes.write(i, tf.reduce_sum(slope, axis=0)),
                support_slope - slope,
                weights_slope + tf.reduce_sum(above * tf.abs(difference), axis=0),
            )

        rows = tf.shape(query)[0]
        slopes = tf.TensorArray(query.dtype, size=rows, element_shape=query.shape[1:])
        start = tf.constant(0), slopes, tf.zeros_like(support), tf.zeros_like(weights)
        _, slopes, support_slope, weights_slope = tf.while_loop(
            lambda i, *_: i < rows, body, start, parallel_iterations=1
        )
        return slopes.stack() * weights, support_slope * weights, weights_slope

    return tf.map_fn(row, query, parallel_iterations=1), gradient


@keras.saving.register_keras_serializable(package=_PACKAGE)
class L1Similarity(keras.layers.Layer):
    """Learned similarity of every position of a query to every one of the support set.

    Called on the guide [k, h, w, C+1], whose last channel is the label, and the query's
    features [q, h, w, C]; returns s [q, h w, k h w]. The weights a start at -4 and b at
    4: unrelated features of unit length are about 1.1 apart, so s starts with both
    signs. The raw features of a backbone can be so far apart that the first steps of an
    optimizer would change the sign of a and so the order of the neighbours. a and b are
    not constrained.
    """

    def build(self, input_shape):
        channels = input_shape[1][-1]
        self.kernel = self.add_weight(
            shape=[channels],
            initializer=keras.initializers.Constant(-_SLOPE),
            name="kernel",
        )
        self.bias = self.add_weight(
            shape=[], initializer=keras.initializers.Constant(_SLOPE), name="bias"
        )

    def call(self, inputs):
        guide, features = inputs
        _, height, width, channels = features.shape
        support = tf.reshape(guide[..., :-1], [-1, channels])
        query = tf.reshape(features, [-1, channels])
        weights = tf.convert_to_tensor(self.kernel) / channels**0.5
        similarity = weighted_l1(query, support, weights) + self.bias
        return tf.reshape(similarity, [-1, height * width, tf.shape(support)[0]])


@keras.saving.register_keras_serializable(package=_PACKAGE)
class MostSimilar(keras.layers.Layer):
    """For each label the similarity to the most similar position that has it.

    Called on the similarity [q, h w, k h w] and the guide [k, h, w, C+1]; returns
    [q, h, w, labels]. Positions whose label is `labels` or more, such as 255, are
    ignored; a label without a position has the similarity `NEVER`.
    """

    def __init__(self, labels: int, **kwargs):
        super().__init__(**kwargs)
        self.labels = labels

    def call(self, inputs):
        similarity, guide = inputs
        own = tf.reshape(guide[..., -1], [-1])
        never = tf.constant(NEVER, similarity.dtype)
        best = [
            tf.reduce_max(tf.where(own == label, similarity, never), axis=-1)
            for label in range(self.labels)
        ]
        _, height, width, _ = guide.shape
        return tf.reshape(tf.stack(best, axis=-1), [-1, height, width, self.labels])

    def get_config(self):
        return {**super().get_config(), "labels": self.labels}


def siamese(
    *,
    image_size: int | tuple[int, int] = 224,
    backbone: str = "VGG16",
    num_classes: int = 1,
    weights: str | None = None,
    width: float = 1.0,
    dilated: bool = False,
    dropout: float = 0.5,
    dtype: str = "float32",
) -> keras.Model:
    """Builds the Siamese network for dense matching.

    The features are those of fc7 (VGG16) or of stage 6 (EfficientNets); see
    `features.dense_features`. At width 1 there are 134,264,641 parameters: FCN-32s up
    to fc7, 4096 weights of the similarity and its bias.

    Args:
      image_size: height and width in pixels, or one number for both; divisible by 32.
      backbone: one of `features.BACKBONES`.
      num_classes: classes besides the background. The weights do not depend on it.
      weights: None for random weights, or "imagenet" for the backbone's.
      width: VGG16's factor on the number of channels, 1 in the paper.
      dilated: VGG16 at stride 8; see `vgg.vgg16_fcn`.
      dropout: VGG16's rate behind fc6 and fc7.
      dtype: of all weights and activations: "float32", or "float64" for proofs.

    Returns:
      A conditioned network (see `conditioned`). The guide is [k, h, w, C+1], features
      and label of each position of the support set. Channel c of the logits is the
      similarity to the most similar position of label c, so that the argmax is the
      label of the nearest neighbour; it is upsampled bilinearly (half-pixel centres).
      Positions of unknown label are ignored, and a label that no position of the
      support set has is at `NEVER`. Untrained, the network matches nearest neighbours
      by the L1 distance. (The paper does not say that features have unit length.)

    Raises:
      UserError: an argument outside the above, or ImageNet weights that cannot be
        downloaded.
    """
    size = parse_image_size(image_size)
    check_common(weights, dtype, num_classes, files=backbone == alexnet.NAME)
    with dtype_scope(dtype):
        inputs, images, masks, query = make_inputs(size, dtype)
        network = dense_features(
            backbone,
            size,
            weights,
            width=width,
            dilated=dilated,
            dropout=dropout,
            frozen_normalization=True,
        )
        images_input, x = network
        x = keras.layers.UnitNormalization(name="unit_length")(x)
        features = keras.Model(images_input, x, name="features")
        cells = features.output_shape[1:3]
        labels = DownsampleLabels(*cells, name=_LABELS)(masks)
        labels = keras.layers.Reshape((*cells, 1), name="label_channel")(labels)
        guide = mark_guide(
            keras.layers.Concatenate(name="pack")([features(images), labels])
        )
        similarity = L1Similarity(name=_SIMILARITY)([guide, features(query)])
        x = MostSimilar(num_classes + 1, name="most_similar")([similarity, guide])
        logits = Resize(*size, name="logits")(x)
    return keras.Model(inputs, logits, name="siamese")


def pair_model(model: keras.Model) -> keras.Model:
    """Returns a model of all pairs of positions, which `siamese` is trained on.

    Args:
      model: of `siamese`.

    Returns:
      A model that shares layers and inputs, with the outputs "similarity"
      [q, h w, k h w], before the sigmoid, and "labels" [k, h, w], those of the support
      set. Positions are in row-major order. (The labels of the queries are
      `downsample_labels` of their masks.)

    Raises:
      UserError: another network.
    """
    if not any(isinstance(layer, L1Similarity) for layer in model.layers):
        raise UserError(
            f"network {model.name}: expected the similarity of pairs of positions, "
            "found none; use the network siamese"
        )
    outputs = {
        "similarity": model.get_layer(_SIMILARITY).output,
        "labels": model.get_layer(_LABELS).output,
    }
    return keras.Model(model.input, outputs, name=f"{model.name}_pairs")
