"""A learned initialization as a SavedModel that needs none of this package to run.

    serving_default      images -> probability, mask              the initialization
    serve_encoded        JPEG or PNG files -> PNG files           the initialization
    adapt_and_segment    support set, queries -> probability, masks

The inner loop runs inside the graph, from constants of the export and the request
alone. No variable is ever assigned: a request cannot change what the next one gets.
"""

from collections.abc import Callable

import tensorflow as tf

from efficientlab_tf.config import ExportConfig, Settings
from efficientlab_tf.episode import IGNORE
from efficientlab_tf.graphs import graph
from efficientlab_tf.segmenters.gradient import AdaptFunctions
from efficientlab_tf.segmenters.inner_loop import InnerLoop
from efficientlab_tf.segmenters.network import Weights
from efficientlab_tf.serving import images as pictures
from efficientlab_tf.serving.checks import (
    behind,
    checked_count,
    checked_images,
    checked_masks,
    require,
)

SERVING_DEFAULT = "serving_default"
SERVE_ENCODED = "serve_encoded"
ADAPT_AND_SEGMENT = "adapt_and_segment"

SEED = 0
"""Of mini-batches, augmentation and dropout: equal requests get equal answers."""

_PNG_LEVELS = 65535.0


class SegmentationModel(tf.Module):
    """Segments images, and files of images, of any size.

    Args:
      about: what segments, in a few words.
      size: height and width that it works at, in pixels; None if it takes images of any
        size as they are.
      classes: K.
      config: what is exported, and the limits of a request.
    """

    def __init__(
        self,
        about: str,
        size: tuple[int, int] | None,
        classes: int,
        config: ExportConfig,
    ):
        super().__init__(name="efficientlab_tf")
        self.about, self.classes, self.config = about, classes, config
        self.size = size

    def signatures(self) -> dict[str, Callable]:
        """The served functions by the names of their signatures."""
        images = tf.TensorSpec([None, None, None, 3], tf.float32, "images")
        files = tf.TensorSpec([None], tf.string, "image_bytes")
        functions = {
            SERVING_DEFAULT: (self._segment, images),
            SERVE_ENCODED: (self._segment_encoded, files),
        }
        return {
            name: graph(function, input_signature=[spec])
            for name, (function, spec) in functions.items()
        }

    def _predict(self, images: tf.Tensor) -> tf.Tensor:
        """float32 [n, h, w, K+1] of images at the network's size."""
        raise NotImplementedError

    def _fitted(self, images: tf.Tensor) -> tf.Tensor:
        return images if self.size is None else pictures.resize(images, *self.size)

    def _answer(self, probability: tf.Tensor, images: tf.Tensor, masks: str) -> dict:
        """The outputs at the size of the request's images."""
        size = tf.shape(images)
        probability = pictures.resize(probability, size[1], size[2])
        return {"probability": probability, masks: _labels(probability)}

    def _segment(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        images = checked_images("images", images, self.config)
        probability = self._predict(self._fitted(images))
        return self._answer(probability, images, "mask")

    def _segment_encoded(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        files = checked_count("image_bytes", image_bytes, self.config.max_images)

        def decoded(item):
            number, data = item
            name = tf.strings.join(["image_bytes[", tf.strings.as_string(number), "]"])
            image = pictures.decode(name, data, self.config.max_side)
            image = tf.cast(image, tf.float32)[tf.newaxis]
            return self._fitted(image)[0], tf.shape(image)[1:3]

        def encoded(item):
            probability, size = item
            probability = pictures.resize(probability[tf.newaxis], size[0], size[1])
            foreground = tf.round((1.0 - probability[0, ..., :1]) * _PNG_LEVELS)
            foreground = tf.clip_by_value(foreground, 0.0, _PNG_LEVELS)
            mask = _labels(probability)[0, ..., tf.newaxis]
            foreground = tf.cast(foreground, tf.uint16)
            return tf.io.encode_png(mask), tf.io.encode_png(foreground)

        def one_by_one(function, items, specs):
            # One picture after another, so that only one at a time is large.
            return tf.map_fn(
                function, items, parallel_iterations=1, fn_output_signature=specs
            )

        numbered = tf.range(tf.shape(files)[0]), files
        text, two = tf.TensorSpec([], tf.string), tf.TensorSpec([2], tf.int32)
        if self.size is None:

            def segmented(item):
                image, size = decoded(item)
                found = self._predict(image[tf.newaxis])[0]
                return *encoded((found, size)), size

            masks, foregrounds, sizes = one_by_one(
                segmented, numbered, (text, text, two)
            )
        else:
            image = tf.TensorSpec([*self.size, 3], tf.float32)
            images, sizes = one_by_one(decoded, numbered, (image, two))
            masks, foregrounds = one_by_one(
                encoded, (self._predict(images), sizes), (text, text)
            )
        return {"mask_bytes": masks, "probability_bytes": foregrounds, "size": sizes}


class ServedModel(SegmentationModel):
    """The functions of a served model.

    Args:
      inner: the inner loop on its network.
      weights: the initialization.
      defaults: steps, learning rate and statistics (support or running) of requests
        that leave them to the model; the rate has no effect where rates were learned.
      config: what is exported, and the limits of a request.

    Attributes:
      learned_rates: whether the rates of the inner loop were learned, not chosen.
    """

    def __init__(
        self,
        inner: InnerLoop,
        weights: Weights,
        defaults: Settings,
        config: ExportConfig,
    ):
        network, size = inner.network, inner.network.image_shape[:2]
        super().__init__(network.about, size, network.classes, config)
        self._functions = AdaptFunctions(inner)
        self.defaults = defaults
        self.learned_rates = bool(weights.rates)
        self._theta, self._statistics, self._rates = (
            [tf.Variable(tensor, trainable=False) for tensor in tensors]
            for tensors in weights
        )

    def signatures(self) -> dict[str, Callable]:
        """The served functions by the names of their signatures."""
        signatures = super().signatures()
        if self.config.adaptation:
            signatures[ADAPT_AND_SEGMENT] = self._adaptation()
        return signatures

    def _adaptation(self) -> Callable:
        # Defaults that are tensors become the signature's own: a gRPC request may
        # leave these two inputs out.
        def adapt_and_segment(
            support_images,
            support_masks,
            query_images,
            learning_rate=tf.constant(0.0),  # noqa: B008
            steps=tf.constant(0),  # noqa: B008
        ):
            weights, limits = self._weights(), self.config
            images = checked_images("support_images", support_images, limits)
            queries = checked_images("query_images", query_images, limits)
            masks = checked_masks("support_masks", support_masks, images, self.classes)
            rate, steps = self._inner_loop(learning_rate, steps)
            images, masks = self._fitted(images), self._fitted_masks(masks)
            adapted, *_ = self._functions.inner.adapt(
                *(weights.theta, weights.statistics, images, masks),
                steps=steps,
                learning_rate=weights.rates or rate,
                seed=tf.constant([SEED, 0]),
            )
            if self.defaults.batch_norm == "support":
                adapted = self._functions.support_statistics(adapted, images)
            probability = self._predict(self._fitted(queries), adapted)
            finite = require(
                tf.reduce_all(tf.math.is_finite(probability)),
                "the adaptation diverged; send a lower learning_rate than ",
                *(rate, " or fewer steps than ", steps),
            )
            return self._answer(behind([finite], probability), queries, "masks")

        shape = [None, None, None, 3]
        specs = [
            tf.TensorSpec(shape, tf.float32, "support_images"),
            tf.TensorSpec(shape[:3], tf.uint8, "support_masks"),
            tf.TensorSpec(shape, tf.float32, "query_images"),
            tf.TensorSpec([], tf.float32, "learning_rate"),
            tf.TensorSpec([], tf.int32, "steps"),
        ]
        return graph(adapt_and_segment, input_signature=specs)

    def _weights(self) -> Weights:
        parts = self._theta, self._statistics, self._rates
        return Weights(*(tuple(v.read_value() for v in part) for part in parts))

    def _predict(self, images: tf.Tensor, weights: Weights | None = None) -> tf.Tensor:
        weights = weights or self._weights()
        return tf.cast(self._functions.predict(weights, images, False), tf.float32)

    def _fitted_masks(self, masks: tf.Tensor) -> tf.Tensor:
        height, width = self.size
        masks = pictures.resize_masks(masks, height, width)
        labelled = require(
            tf.reduce_any((masks > 0) & (masks != IGNORE)),
            "support_masks: resized to the network's "
            f"{height}x{width} pixels nothing of the object is left; label "
            "more of it, or send images of that size",
        )
        return behind([labelled], masks)

    def _inner_loop(
        self, learning_rate: tf.Tensor, steps: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The request's learning rate and steps, or the model's own for 0 and -1."""
        own_rate = (learning_rate == 0.0) | (learning_rate == -1.0)
        own_steps = (steps == 0) | (steps == -1)
        fits, reason = learning_rate > 0.0, "a positive number"
        if self.learned_rates:
            fits, reason = False, "nothing else, as this model learned its rates"
        most, own = self.config.max_steps, "expected 0 (the model's own) or"
        fits = tf.math.is_finite(learning_rate) & (own_rate | fits)
        allowed = own_steps | ((steps >= 1) & (steps <= most))
        checks = [
            require(fits, f"learning_rate: {own} {reason}, received ", learning_rate),
            require(allowed, f"steps: {own} 1 to {most}, received ", steps),
        ]
        rate = tf.where(own_rate, self.defaults.learning_rate, learning_rate)
        steps = tf.where(own_steps, self.defaults.steps, steps)
        return behind(checks, rate), behind(checks, steps)


def _labels(probability: tf.Tensor) -> tf.Tensor:
    """uint8 [...]: the most probable class; for one class, foreground above 0.5."""
    return tf.cast(tf.argmax(probability, axis=-1, output_type=tf.int32), tf.uint8)
