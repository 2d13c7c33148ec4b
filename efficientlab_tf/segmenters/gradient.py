"""The question that every method answers: given a support set, segment a query.

    adapted = segmenter.adapt(support_images, support_masks)
    probabilities = adapted.predict(query_images)

Gradient learners adapt by SGD from their initialization; the initialization
itself is never changed, so tasks cannot leak into each other.
"""

import dataclasses
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import tensorflow as tf

from efficientlab_tf.models.layers import batch_statistics
from efficientlab_tf.segmenters.inner_loop import InnerLoop
from efficientlab_tf.segmenters.network import Weights

BATCH_NORM_MODES = ("running", "support", "query")


class Adapted(Protocol):
    """A segmenter that has seen a support set."""

    def predict(self, query_images: np.ndarray) -> np.ndarray:
        """Maps images [n, H, W, 3], 0..255, to probabilities float [n, H, W, K+1]."""
        ...


class Segmenter(Protocol):
    """A few-shot segmentation method."""

    def adapt(
        self, support_images: np.ndarray, support_masks: np.ndarray, *, seed: int
    ) -> Adapted:
        """Learns from uint8 images [k, H, W, 3] and masks [k, H, W]."""
        ...


@dataclasses.dataclass(frozen=True)
class GradientSegmenter:
    """Segments by SGD from an initialization.

    Attributes:
      functions: the compiled adapt and predict, shared by every initialization
        of the same network.
      weights: the initialization.
      learning_rate: of the inner loop; the weights' own rates, where they were
        learned, take its place.
      steps: of the inner loop; 0 predicts with the initialization itself.
      batch_norm: "running", "support" or "query"; see `AdaptFunctions.predict`.
    """

    functions: "AdaptFunctions"
    weights: Weights
    learning_rate: float
    steps: int
    batch_norm: str = "running"

    def adapt(
        self, support_images: np.ndarray, support_masks: np.ndarray, *, seed: int = 0
    ) -> "GradientAdapted":
        """Adapts to a support set.

        Args:
          support_images: uint8 [k, H, W, 3], 0..255.
          support_masks: uint8 [k, H, W]; 0..K, 255 unknown.
          seed: decides mini-batches, augmentation and dropout.
        """
        support = map(tf.convert_to_tensor, (support_images, support_masks))
        return self._steps(self.weights, *support, 0, self.steps, seed)[1]

    def walk(
        self, support_images: np.ndarray, support_masks: np.ndarray, *, seed: int = 0
    ) -> Iterator["GradientAdapted"]:
        """Yields what `adapt` gives after 0, 1, 2, ... steps, up to `steps`.

        For those who watch, or decide on the way when to stop. Arguments as `adapt`;
        `losses` holds the loss of the last step alone.
        """
        support = tuple(map(tf.convert_to_tensor, (support_images, support_masks)))
        weights, adapted = self._steps(self.weights, *support, 0, 0, seed)
        yield adapted
        for k in range(self.steps):
            weights, adapted = self._steps(weights, *support, k, k + 1, seed)
            yield adapted

    def _steps(self, weights, images, masks, first: int, steps: int, seed: int):
        """Steps `first` to `steps` - 1; returns the weights to go on from, too."""
        rates = self.weights.rates
        weights, losses = self.functions.adapt(
            weights._replace(rates=rates),
            images,
            masks,
            tf.constant(steps),
            tf.constant(self.learning_rate, tf.float32),
            tf.constant([seed % 2**31, 0]),
            tf.constant(first),
        )
        adapted = weights
        if self.batch_norm == "support":
            adapted = self.functions.support_statistics(weights, images)
        return weights, GradientAdapted(
            self.functions, adapted, losses, self.batch_norm
        )


@dataclasses.dataclass(frozen=True)
class GradientAdapted:
    """A network adapted to one support set.

    Attributes:
      functions: see `GradientSegmenter`.
      weights: the adapted weights.
      losses: float [steps], the support loss before each step.
      batch_norm: see `GradientSegmenter`.
    """

    functions: "AdaptFunctions"
    weights: Weights
    losses: tf.Tensor
    batch_norm: str

    def predict(self, query_images: np.ndarray, batch: int = 8) -> np.ndarray:
        """Predicts class probabilities.

        Args:
          query_images: uint8 or float [n, H, W, 3], 0..255.
          batch: images at a time. It changes nothing but memory, except with
            batch_norm "query", which takes all images at once.

        Returns:
          float32 [n, H, W, K+1].
        """
        if self.batch_norm == "query":
            batch = len(query_images)
        parts = [
            self.functions.predict(
                self.weights,
                tf.convert_to_tensor(query_images[i : i + batch]),
                self.batch_norm == "query",
            ).numpy()
            for i in range(0, len(query_images), batch)
        ]
        return np.concatenate(parts).astype(np.float32)


class AdaptFunctions:
    """Adaptation and prediction of one network, compiled once.

    Args:
      inner: the inner loop.
    """

    def __init__(self, inner: InnerLoop):
        self.inner = inner
        height, width, channels = inner.network.image_shape
        self._images = tf.TensorSpec([None, height, width, channels], tf.uint8)
        self._masks = tf.TensorSpec([None, height, width], tf.uint8)
        self._adapt = tf.function(self._adapt_graph, reduce_retracing=True)
        self._statistics = tf.function(self._statistics_graph, reduce_retracing=True)
        self._predict = tf.function(self._predict_graph, reduce_retracing=True)

    def segmenter(
        self, weights: Weights, *, learning_rate: float, steps: int, batch_norm: str
    ) -> GradientSegmenter:
        """Returns a segmenter that starts from `weights`."""
        if batch_norm not in BATCH_NORM_MODES:
            raise ValueError(
                f"batch_norm must be one of {BATCH_NORM_MODES}, received {batch_norm!r}"
            )
        return GradientSegmenter(self, weights, learning_rate, steps, batch_norm)

    def adapt(self, weights, images, masks, steps, learning_rate, seed, first):
        """Returns the weights after steps `first` to `steps` - 1, and their losses."""
        return self._adapt(weights, images, masks, steps, learning_rate, seed, first)

    def support_statistics(self, weights: Weights, images: tf.Tensor) -> Weights:
        """Replaces the running averages by the statistics of the support set.

        One forward pass under the adapted weights, without dropout: the running
        averages lag behind adaptation, and this uses no query image.
        """
        return self._statistics(weights, images)

    def predict(self, weights: Weights, images: tf.Tensor, transductive: bool):
        """Returns probabilities [n, H, W, K+1].

        With `transductive` the statistics of this very batch normalize it.
        """
        return self._predict(weights, images, transductive)

    def _adapt_graph(self, weights, images, masks, steps, learning_rate, seed, first):
        return self.inner.adapt(
            weights.theta,
            weights.statistics,
            tf.ensure_shape(images, self._images.shape),
            tf.ensure_shape(masks, self._masks.shape),
            steps=steps,
            learning_rate=weights.rates or learning_rate,
            seed=seed,
            first=first,
        )

    def _infer(self, weights, images):
        return self.inner.network(
            weights.theta, weights.statistics, images, training=False
        )

    def _statistics_graph(self, weights, images):
        with batch_statistics(momentum=0.0):
            _, statistics = self._infer(weights, images)
        return weights._replace(statistics=statistics)

    def _predict_graph(self, weights, images, transductive):
        if transductive:
            with batch_statistics():
                logits, _ = self._infer(weights, images)
        else:
            logits, _ = self._infer(weights, images)
        return tf.nn.softmax(logits)
