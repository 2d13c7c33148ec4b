"""Guidance as a value (Rakelly et al., sections 4.1 and 4.2).

    guide = segmenter.adapt(support_images, support_masks)
    guide = guide.update(0, [(row, column, label), ...])         another value
    probabilities = guide.predict(query_images)

What a guided network knows of a task is small and needs no optimization. With late
fusion the features of a support image do not depend on its annotations: they are made
once, and new annotations cost a masking and a mean. With early fusion the annotations
go in with the image, so each update runs the support network again on all images.

    queries = segmenter.read(query_images)
    probabilities = guide.predict(queries)

does the same for the queries, with any fusion: what is left is the scoring head. With
late fusion `segmenter.adapt(queries, masks)` learns from what was read as well.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from efficientlab_tf.episode import IGNORE
from efficientlab_tf.errors import UserError
from efficientlab_tf.models.conditioned import GUIDE
from efficientlab_tf.models.guided import (
    ANNOTATIONS,
    QUERY_FEATURES,
    SUPPORT_FEATURES,
    parts,
)
from efficientlab_tf.segmenters.forward import ForwardFunctions
from efficientlab_tf.segmenters.network import Network, Part, Weights


class GuidedFunctions(ForwardFunctions):
    """The pieces of a guided network, compiled once.

    Args:
      network: with a model of `models.guided`.

    Attributes:
      late: whether features of the support do not depend on its annotations.

    Raises:
      UserError: another network.
    """

    def __init__(self, network: Network):
        pieces = parts(network.model)
        super().__init__(network)
        self.late = pieces.late
        self._pool = pieces.guide
        self._features = Part(network, pieces.features)
        self._score = Part(network, pieces.score)
        self.features = tf.function(self._features_graph, reduce_retracing=True)
        self.pool = tf.function(self._pool_graph, reduce_retracing=True)
        self.probabilities = tf.function(
            self._probabilities_graph, reduce_retracing=True
        )

    def segmenter(
        self,
        weights: Weights,
        *,
        learning_rate: float = 0.0,
        steps: int = 0,
        batch_norm: str = "running",
    ) -> "GuidedSegmenter":
        """Returns a segmenter with these weights; see `ForwardFunctions`."""
        super().segmenter(weights, batch_norm=batch_norm)
        return GuidedSegmenter(self, weights)

    def read_support(self, weights: Weights, images: np.ndarray) -> tf.Tensor:
        """What of support images can be done before their annotations are known.

        Their features [k, h, w, C]; with early fusion nothing: the images [k, H, W, 3].
        """
        images = tf.convert_to_tensor(images)
        return self.features(weights, images) if self.late else images

    def guides(
        self, weights: Weights, support: tf.Tensor, masks: np.ndarray
    ) -> tf.Tensor:
        """The guides of all classes, joined along the first axis.

        Args:
          weights: of the network.
          support: of `read_support`.
          masks: uint8 [k, H, W]; 0..K, 255 unknown.
        """
        guides = []
        for label in range(1, count_classes(masks) + 1):
            own = np.where(masks == IGNORE, masks, masks == label).astype(np.uint8)
            own = tf.convert_to_tensor(own)
            if self.late:
                guides.append(self.pool(support, own))
            else:
                guides.append(self.guide(weights, support, own))
        return tf.concat(guides, axis=0)

    def _features_graph(self, weights, images):
        return self._features(weights, images)[0]

    def _pool_graph(self, features, masks):
        # It has no variables, so it needs no weights.
        masks = tf.cast(masks, features.dtype)
        return self._pool({SUPPORT_FEATURES: features, ANNOTATIONS: masks})

    def _probabilities_graph(self, weights, guides, features):
        classes, queries = tf.shape(guides)[0], tf.shape(features)[0]
        ones = [1] * (features.shape.rank - 1)
        inputs = {
            GUIDE: tf.repeat(guides, queries, axis=0),
            QUERY_FEATURES: tf.tile(features, [classes, *ones]),
        }
        logits = self._score(weights, inputs)[0]
        scores = logits[..., 1] - logits[..., 0]
        scores = tf.reshape(scores, [classes, queries, *scores.shape[1:]])
        background = tf.zeros_like(scores[:1])
        joint = tf.transpose(tf.concat([background, scores], axis=0), [1, 2, 3, 0])
        return tf.nn.softmax(joint)


def count_classes(masks: np.ndarray) -> int:
    """K, the largest label; 0 if there is none but background and unknown."""
    return int(np.max(masks, where=masks != IGNORE, initial=0))


@dataclasses.dataclass(frozen=True)
class Queries:
    """Images of which the features are known.

    Attributes:
      features: float [n, h, w, C].
    """

    features: tf.Tensor


@dataclasses.dataclass(frozen=True)
class GuidedSegmenter:
    """Segments with a guided network, and takes corrections.

    Attributes:
      functions: the network's.
      weights: of the network.
    """

    functions: GuidedFunctions
    weights: Weights

    def adapt(
        self,
        support_images: "np.ndarray | Queries",
        support_masks: np.ndarray,
        *,
        seed: int = 0,
    ) -> "Guidance":
        """Reads a support set.

        Args:
          support_images: uint8 [k, H, W, 3], 0..255; with late fusion also what `read`
            made of them.
          support_masks: uint8 [k, H, W]; 0..K, 255 unknown. Some may be dense, others
            sparse or wholly unknown.
          seed: nothing is random here.

        Raises:
          UserError: wrong sizes or types, a class up to K without a pixel, or features
            with early fusion.
        """
        del seed
        shape = self.functions.network.image_shape
        read = isinstance(support_images, Queries)
        if read and not self.functions.late:
            raise UserError(
                "support images: expected the images, as early fusion reads them with "
                "their annotations; received their features"
            )
        images = support_images.features if read else support_images
        if not read:
            images = _checked("support images", images, shape)
        masks = _checked("support masks", support_masks, shape[:2])
        if len(images) != len(masks):
            raise UserError(
                f"support: expected a mask for each image, received {len(images)} "
                f"images and {len(masks)} masks"
            )
        support = images
        if not read:
            support = self.functions.read_support(self.weights, images)
        return _guidance(self.functions, self.weights, support, masks)

    def read(self, query_images: np.ndarray, batch: int = 8) -> Queries:
        """Makes the features of images that are to be segmented more than once.

        Args:
          query_images: uint8 [n, H, W, 3], 0..255.
          batch: images at a time; it changes nothing but memory.

        Raises:
          UserError: wrong sizes or types.
        """
        shape = self.functions.network.image_shape
        images = _checked("query images", query_images, shape)
        features = [
            self.functions.features(
                self.weights, tf.convert_to_tensor(images[i : i + batch])
            )
            for i in range(0, len(images), batch)
        ]
        return Queries(tf.concat(features, axis=0))


@dataclasses.dataclass(frozen=True)
class Guidance:
    """What a guided network knows of a task. It never changes: `update` makes another.

    Attributes:
      functions: see `GuidedSegmenter`.
      weights: see `GuidedSegmenter`.
      support: of `GuidedFunctions.read_support`.
      masks: uint8 [k, H, W], all annotations so far; read only.
      guides: one for each class, along the first axis.
    """

    functions: GuidedFunctions
    weights: Weights
    support: tf.Tensor
    masks: np.ndarray
    guides: tf.Tensor

    @property
    def classes(self) -> int:
        """K, the number of classes; each has a pixel."""
        return count_classes(self.masks)

    def update(
        self, image: int | np.ndarray, points: Sequence[tuple[int, int, int]]
    ) -> "Guidance":
        """Adds annotations.

        Annotations add up, and their order does not matter, except that a point on an
        annotated pixel corrects it. A pixel counts as much as any other of its label
        and image, so a point beside a dense mask does little.

        Args:
          image: number of a support image, from 0; or uint8 [H, W, 3], an image that
            joins the support set.
          points: (row, column, label) each, in pixels from the upper left corner; the
            label is 0 for the background or 1..K. K + 1 starts a new class.

        Returns:
          What `GuidedSegmenter.adapt` gives for all images with all annotations.

        Raises:
          UserError: no such image, an image of another size, a point outside of it, two
            labels for one pixel, or a class up to the largest label without a pixel.
        """
        support, masks = self.support, self.masks.copy()
        if isinstance(image, int | np.integer):
            if not 0 <= image < len(masks):
                raise UserError(
                    f"image: expected a number from 0 to {len(masks) - 1}, of a "
                    f"support image, received {image}"
                )
        else:
            shape = self.functions.network.image_shape
            added = _checked("image", np.asarray(image)[np.newaxis], shape)
            read = self.functions.read_support(self.weights, added)
            support = tf.concat([support, read], axis=0)
            masks = np.concatenate([masks, np.full_like(masks[:1], IGNORE)])
            image = -1
        rows, columns, labels = _checked_points(points, masks.shape[1:])
        masks[image, rows, columns] = labels
        return _guidance(self.functions, self.weights, support, masks)

    def predict(
        self, query_images: "np.ndarray | Queries", batch: int = 8
    ) -> np.ndarray:
        """Predicts class probabilities.

        Args:
          query_images: uint8 [n, H, W, 3], 0..255, or what `GuidedSegmenter.read` made
            of them.
          batch: images at a time; it changes nothing but memory.

        Returns:
          float32 [n, H, W, K+1].

        Raises:
          UserError: wrong sizes or types.
        """
        queries = query_images
        if not isinstance(queries, Queries):
            queries = GuidedSegmenter(self.functions, self.weights).read(queries, batch)
        parts = [
            self.functions.probabilities(
                self.weights, self.guides, queries.features[i : i + batch]
            ).numpy()
            for i in range(0, len(queries.features), batch)
        ]
        return np.concatenate(parts).astype(np.float32)


def _guidance(functions, weights, support, masks: np.ndarray) -> Guidance:
    labels = set(np.unique(masks).tolist()) - {IGNORE}
    classes = max(labels, default=0)
    if not classes:
        seen = "background alone" if labels else "none"
        raise UserError(
            f"annotations: expected at least one pixel of a class, received {seen}; "
            "mark what is to be found"
        )
    missing = set(range(1, classes + 1)) - labels
    if missing:
        raise UserError(
            f"annotations: expected a pixel of each class from 1 to {classes}, "
            f"received none of {min(missing)}; mark one, or number the classes anew"
        )
    guides = functions.guides(weights, support, masks)
    masks.setflags(write=False)
    return Guidance(functions, weights, support, masks, guides)


def _checked(name: str, values, shape: tuple[int, ...]) -> np.ndarray:
    """A copy, as an array, of values that are uint8 [n, *shape] with n > 0."""
    array = np.array(values)
    if array.dtype != np.uint8 or array.shape[1:] != shape or not len(array):
        sides = ", ".join(map(str, ("n", *shape)))
        raise UserError(
            f"{name}: expected uint8 [{sides}], received {array.dtype} "
            f"{list(array.shape)}; resize to the network's size"
        )
    return array


def _checked_points(points, size: tuple[int, ...]) -> np.ndarray:
    """Rows, columns and labels, int64 [3, P]."""
    try:
        array = np.asarray(points).reshape(-1, 3)
        whole = array.astype(np.int64)
        if np.any(whole != array):
            raise ValueError
    except (ValueError, TypeError) as error:
        raise UserError(
            "points: expected (row, column, label) each, whole numbers; received "
            f"{points!r}"
        ) from error
    height, width = size
    for row, column, label in whole.tolist():
        if not (0 <= row < height and 0 <= column < width):
            raise UserError(
                f"points: expected rows from 0 to {height - 1} and columns from 0 to "
                f"{width - 1}, received ({row}, {column})"
            )
        if not 0 <= label < IGNORE:
            raise UserError(
                f"points: expected labels from 0 to {IGNORE - 1}, received {label} at "
                f"({row}, {column})"
            )
    distinct = np.unique(whole, axis=0)
    places, counts = np.unique(distinct[:, :2], axis=0, return_counts=True)
    if np.any(counts > 1):
        row, column = places[np.argmax(counts)].tolist()
        raise UserError(
            f"points: expected one label for each pixel, received two for "
            f"({row}, {column})"
        )
    return whole.T
