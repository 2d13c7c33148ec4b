"""Segmenting by SGD from an initialization: the inner loop as a segmenter.

The initialization itself is never changed, so tasks cannot leak into each other.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from efficientlab_tf.errors import UserError
from efficientlab_tf.graphs import graph
from efficientlab_tf.models.layers import batch_statistics
from efficientlab_tf.segmenters.inner_loop import InnerLoop
from efficientlab_tf.segmenters.network import Weights
from efficientlab_tf.segmenters.segmenter import (
    BATCH_NORM_MODES,
    Adapted,
    Diverged,
    Features,
    Segmenter,
    Served,
    spread,
    values_of,
)
from efficientlab_tf.xla import compiling

MAX_STATISTICS = 64
"""Statistics of a support set of more pictures are those of as many, evenly spread."""
MAX_GROWTH = 1e4
"""A loss that grew by more than this factor, and to more than it, has no bound."""


@dataclasses.dataclass(frozen=True)
class GradientSegmenter(Segmenter):
    """Segments by SGD from an initialization.

    Attributes:
      functions: shared by every initialization of the same network.
      weights: the initialization.
      learning_rate: of the inner loop; the weights' own rates, where they were
        learned, take its place.
      steps: of the inner loop; 0 predicts with the initialization itself.
      batch_norm: one of `BATCH_NORM_MODES`.
    """

    functions: "AdaptFunctions"
    weights: Weights
    learning_rate: float
    steps: int
    batch_norm: str = "running"

    def adapt(
        self, images: np.ndarray | Features, masks: np.ndarray, *, seed: int = 0
    ) -> "GradientAdapted":
        """See `Segmenter`; the seed decides mini-batches, augmentation and dropout."""
        support = map(tf.convert_to_tensor, (values_of(images), masks))
        adapted = self._steps(self.weights, *support, 0, self.steps, seed)[1]
        self._check(adapted.losses)
        return adapted

    def walk(
        self, images: np.ndarray | Features, masks: np.ndarray, *, seed: int = 0
    ) -> Iterator["GradientAdapted"]:
        """See `Segmenter`; `losses` holds the loss of the last step alone."""
        support = tuple(map(tf.convert_to_tensor, (values_of(images), masks)))
        weights, adapted = self._steps(self.weights, *support, 0, 0, seed)
        yield adapted
        losses: list[float] = []
        for k in range(self.steps):
            weights, adapted = self._steps(weights, *support, k, k + 1, seed)
            losses += adapted.losses.tolist()
            self._check(losses)
            yield adapted

    def _check(self, losses: Sequence[float]) -> None:
        """Refuses what became of an initialization that only looks adapted.

        Raises:
          Diverged: the losses, from the first step on, are of that kind.
        """
        if not len(losses):
            return
        bounded = losses[-1] <= MAX_GROWTH * max(1.0, losses[0])
        if not (bounded and np.isfinite(losses).all()):
            rates = "the learned rates"
            if not self.weights.rates:
                rates = f"`learning_rate` {self.learning_rate:g}"
            raise Diverged(
                f"adaptation diverged: with {rates} the loss went from "
                f"{losses[0]:.3g} to {losses[-1]:.3g} within {len(losses)} steps; "
                "take a smaller learning rate, or fewer `steps`"
            )

    def _steps(self, weights, images, masks, first: int, steps: int, seed: int):
        """Steps `first` to `steps` - 1; returns the weights to go on from, too."""
        inner = self.functions.inner
        with compiling(f"the inner loop of {inner.network.about}", inner.jit):
            weights, losses = self.functions.adapt(
                weights._replace(rates=self.weights.rates),
                images,
                masks,
                tf.constant(steps),
                tf.constant(self.learning_rate, tf.float32),
                tf.constant([seed % 2**31, 0]),
                tf.constant(first),
            )
        adapted = weights
        if self.batch_norm == "support":
            seen = images
            if len(images) > MAX_STATISTICS:
                seen = tf.gather(images, spread(len(images), MAX_STATISTICS))
            adapted = self.functions.support_statistics(weights, seen)
        return weights, GradientAdapted(
            self.functions, adapted, self.batch_norm, losses.numpy()
        )


@dataclasses.dataclass(frozen=True)
class GradientAdapted(Adapted):
    """A network adapted to one support set.

    Attributes:
      functions: see `GradientSegmenter`, as `batch_norm`.
      weights: the adapted weights.
      losses: float [steps], the support loss before each step.
    """

    functions: "AdaptFunctions"
    weights: Weights
    batch_norm: str
    losses: Sequence[float] = ()

    def predict(self, images: np.ndarray | Features, batch: int = 8) -> np.ndarray:
        """See `Adapted`.

        `batch` images at a time change nothing but memory; with batch_norm "query" all
        are taken at once.

        Raises:
          Diverged: a prediction is not finite.
        """
        images = values_of(images)
        transductive = self.batch_norm == "query"
        if transductive:
            batch = len(images)
        parts = []
        for i in range(0, len(images), batch):
            part = tf.convert_to_tensor(images[i : i + batch])
            found = self.functions.predict(self.weights, part, transductive)
            parts.append(found.numpy())
        probabilities = np.concatenate(parts).astype(np.float32)
        if not np.isfinite(probabilities).all():
            raise Diverged(
                "the adapted network predicts numbers that are not finite; take a "
                "smaller learning rate, or fewer `steps`"
            )
        return probabilities

    def served(self) -> Served:
        """See `Adapted`.

        Raises:
          UserError: with statistics of the query batch, which no single request has.
        """
        if self.batch_norm == "query":
            raise UserError(
                "`batch_norm`: expected running or support for an exported model, "
                "received query"
            )
        network = self.functions.inner.network

        def probabilities(tensors, images):
            return self.functions.predict(Weights(*tensors), images, False)

        tensors = (self.weights.theta, self.weights.statistics)
        return Served(tensors, probabilities, network.about)


class AdaptFunctions:
    """Adaptation and prediction of one network, compiled once.

    Args:
      inner: the inner loop.
    """

    def __init__(self, inner: InnerLoop):
        self.inner = inner
        height, width, channels = inner.network.image_shape
        self._image_shape = [None, height, width, channels]
        compiled = functools.partial(graph, reduce_retracing=True)
        self.adapt = compiled(self._adapt)
        self.support_statistics = compiled(self._support_statistics)
        self.predict = compiled(self._predict)

    def segmenter(
        self, weights: Weights, *, learning_rate: float, steps: int, batch_norm: str
    ) -> GradientSegmenter:
        """Returns a segmenter that starts from `weights`."""
        if batch_norm not in BATCH_NORM_MODES:
            raise UserError(
                f"`batch_norm` must be one of {', '.join(BATCH_NORM_MODES)}, received "
                f"{batch_norm!r}"
            )
        return GradientSegmenter(self, weights, learning_rate, steps, batch_norm)

    def _adapt(self, weights, images, masks, steps, learning_rate, seed, first):
        """Returns the weights after steps `first` to `steps` - 1, and their losses."""
        weights, losses, _ = self.inner.adapt(
            weights.theta,
            weights.statistics,
            tf.ensure_shape(images, self._image_shape),
            tf.ensure_shape(masks, self._image_shape[:3]),
            steps=steps,
            learning_rate=weights.rates or learning_rate,
            seed=seed,
            first=first,
        )
        return weights, losses

    def _support_statistics(self, weights, images):
        """Replaces the running averages, which lag behind, by the support set's."""
        with batch_statistics(momentum=0.0):
            _, statistics = self._infer(weights, images)
        return weights._replace(statistics=statistics)

    def _predict(self, weights, images, transductive):
        """Probabilities [n, H, W, K+1]; transductive: by this batch's statistics."""
        with batch_statistics() if transductive else contextlib.nullcontext():
            logits, _ = self._infer(weights, images)
        return tf.nn.softmax(logits)

    def _infer(self, weights, images):
        return self.inner.network(
            weights.theta, weights.statistics, images, training=False
        )
