"""Siamese dense matching (Shaban et al. 2017, supplement B; after Koch et al.).

    s(i, j) = sum_c a_c |f_i - g_j|_c / sqrt(C) + b
    L       = mean over (i, j) of H(sigmoid s(i, j), [label of i = label of j])

i is a position of the query, j one of the support set.

A training step draws half of the query's and half of the support's positions. In
prediction a query position takes the label of the most similar support position.
"""

import tensorflow as tf

from efficientlab_tf.config import LearnerConfig
from efficientlab_tf.episode import IGNORE, Episode
from efficientlab_tf.errors import UserError
from efficientlab_tf.learners.feedforward import Feedforward, network_inputs
from efficientlab_tf.models.siamese import downsample_labels, pair_model
from efficientlab_tf.segmenters.inner_loop import fold_in
from efficientlab_tf.segmenters.network import Network, Part, Weights

# Salts of the random streams of a step.
_SUPPORT, _QUERY = 1, 2

SEEN = 0.5
"""Fraction of the positions of each set that a training step draws."""


class Siamese(Feedforward):
    """Trains a network to tell whether two positions show the same class.

    Raises:
      UserError: the network has no similarity of pairs, or another loss is asked for.
    """

    metric_names = ("loss", "accuracy")

    def __init__(self, network: Network, config: LearnerConfig, **options):
        self._pairs = Part(network, pair_model(network.model))
        if config.loss != "cross_entropy" or options.get("objective"):
            received = "an objective" if options.get("objective") else config.loss
            raise UserError(
                f"`loss` must be cross_entropy for siamese, received {received}: its "
                "loss is of pairs of positions"
            )
        super().__init__(network, config, **options)

    def loss(
        self, weights: Weights, episode: Episode, seed: tf.Tensor
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor], tuple[tf.Tensor, ...]]:
        """See the module and `Feedforward.loss`; `accuracy` is of pairs, at 0.5."""
        pairs, statistics = self._pairs(
            weights, network_inputs(episode), training=True, seed=seed
        )
        similarity = pairs["similarity"]
        support = tf.reshape(pairs["labels"], [-1])
        height, width = pairs["labels"].shape[1:]
        query = downsample_labels(episode.query_masks, height, width)
        query = tf.reshape(query, [-1, height * width])
        columns = half(tf.shape(support)[0], fold_in(seed, _SUPPORT))
        rows = half(height * width, fold_in(seed, _QUERY))
        support = tf.gather(support, columns)
        query = tf.cast(tf.gather(query, rows, axis=1), support.dtype)[..., tf.newaxis]
        similarity = tf.gather(tf.gather(similarity, rows, axis=1), columns, axis=2)
        known = tf.cast((query != IGNORE) & (support != IGNORE), similarity.dtype)
        same = tf.cast(query == support, similarity.dtype)
        count = tf.maximum(tf.reduce_sum(known), 1.0)
        entropy = tf.nn.sigmoid_cross_entropy_with_logits(same, similarity)
        loss = tf.reduce_sum(known * entropy) / count
        right = tf.cast((similarity > 0) == (same > 0), similarity.dtype)
        accuracy = tf.reduce_sum(known * right) / count
        return loss, {"loss": loss, "accuracy": accuracy}, statistics


def half(count: tf.Tensor | int, seed: tf.Tensor) -> tf.Tensor:
    """Returns `SEEN` of `count` indices, at least one, int32, in random order."""
    seen = tf.cast(tf.math.ceil(SEEN * tf.cast(count, tf.float32)), tf.int32)
    return tf.argsort(tf.random.stateless_uniform([count], seed))[:seen]
