"""Conditioned networks as segmenters: one forward pass reads a support set.

    guide  = support branch(support images, support masks)     once, for each class
    logits = segmentation(guide, query images)

A network for one class tells several apart with a guide for each: with s_c the log-odds
of class c against all else, p = softmax(0, s_1, ..., s_K).

Guided networks with late fusion (Rakelly et al., sections 4.1 and 4.2) and closed-form
networks make the features of an image before they see its annotations: what is left for
an annotation is a masked mean, or a solve, and for a query the scoring head.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from efficientlab_tf.episode import IGNORE
from efficientlab_tf.errors import UserError
from efficientlab_tf.graphs import graph
from efficientlab_tf.models.conditioned import GUIDE, split
from efficientlab_tf.models.guided import (
    ANNOTATIONS,
    QUERY_FEATURES,
    SUPPORT_FEATURES,
    is_late,
    parts,
)
from efficientlab_tf.segmenters.network import Network, Part, Weights
from efficientlab_tf.segmenters.segmenter import (
    Adapted,
    Features,
    Segmenter,
    Served,
    values_of,
)

_BATCH = 8


class ForwardFunctions:
    """The two halves of a conditioned network, compiled once.

    Args:
      network: a conditioned network.

    Attributes:
      reads: whether features of an image can be made before it is annotated.
    """

    reads = False

    def __init__(self, network: Network):
        self.network = network
        self._cut()
        self.read = graph(self._read, reduce_retracing=True)
        self.guide = graph(self._guide, reduce_retracing=True)
        self.logits = graph(self._logits, reduce_retracing=True)

    def segmenter(
        self,
        weights: Weights,
        *,
        learning_rate: float = 0.0,
        steps: int = 0,
        batch_norm: str = "running",
    ) -> "ForwardSegmenter":
        """Returns a segmenter with these weights; an inner loop's settings are ignored.

        Raises:
          UserError: `batch_norm` is not "running".
        """
        if batch_norm != "running":
            raise UserError(
                f"`batch_norm` must be running for {self.network.model.name}, received "
                f"{batch_norm}: a network without an inner loop has no other statistics"
            )
        return ForwardSegmenter(self, weights)

    def _cut(self) -> None:
        guide, segment = split(self.network.model)
        self._guide_part = Part(self.network, guide)
        self._segment = Part(self.network, segment)

    def _read(self, weights, images):
        """What a network sees of images that are not annotated: the images."""
        return images

    def _guide(self, weights, read, masks):
        """The guide of a support set [k, ...] with masks [k, H, W]."""
        inputs = {"support_images": read, "support_masks": masks}
        return self._guide_part(weights, inputs)[0]

    def _logits(self, weights, guide, read):
        """Logits [n, H, W, K+1] of queries [n, ...]."""
        return self._segment(weights, {GUIDE: guide, "query_images": read})[0]


class LateFusionFunctions(ForwardFunctions):
    """The pieces of a network with late fusion, compiled once."""

    reads = True

    def _cut(self) -> None:
        pieces = parts(self.network.model)
        self._pool = Part(self.network, pieces.guide)
        self._features = Part(self.network, pieces.features)
        self._score = Part(self.network, pieces.score)

    def _read(self, weights, images):
        return self._features(weights, images)[0]

    def _guide(self, weights, read, masks):
        return self._pool(weights, {SUPPORT_FEATURES: read, ANNOTATIONS: masks})[0]

    def _logits(self, weights, guide, read):
        guides = tf.repeat(guide, tf.shape(read)[0], axis=0)
        return self._score(weights, {GUIDE: guides, QUERY_FEATURES: read})[0]


def forward_functions(network: Network) -> ForwardFunctions:
    """Returns the compiled pieces of a conditioned network."""
    late = is_late(network.model)
    return (LateFusionFunctions if late else ForwardFunctions)(network)


@dataclasses.dataclass(frozen=True)
class ForwardSegmenter(Segmenter):
    """Segments with a conditioned network.

    Attributes:
      functions: the network's.
      weights: of the network.
    """

    functions: ForwardFunctions
    weights: Weights

    @property
    def live(self) -> bool:
        """See `Segmenter`."""
        return self.functions.reads

    def read(self, images: np.ndarray) -> Features:
        """See `Segmenter`: features with late fusion, else the images."""
        if not self.functions.reads:
            return Features(images)
        parts = [
            self.functions.read(self.weights, tf.convert_to_tensor(images[i:][:_BATCH]))
            for i in range(0, len(images), _BATCH)
        ]
        return Features(np.concatenate(parts))

    def adapt(
        self, images: np.ndarray | Features, masks: np.ndarray, *, seed: int = 0
    ) -> "ForwardAdapted":
        """Reads a support set, a guide for each class.

        See `Segmenter`; nothing is random here.
        """
        if not isinstance(images, Features):
            images = self.read(images)
        read, masks = tf.convert_to_tensor(images.values), np.asarray(masks)
        ways = 1
        if self.functions.network.classes == 1:
            ways = max(1, int(masks[masks != IGNORE].max(initial=0)))
        guides = []
        for way in range(1, ways + 1):
            own = masks
            if ways > 1:
                own = np.where(masks == IGNORE, masks, masks == way).astype(np.uint8)
            own = tf.convert_to_tensor(own)
            guides.append(self.functions.guide(self.weights, read, own))
        return ForwardAdapted(self.functions, self.weights, tuple(guides))


@dataclasses.dataclass(frozen=True)
class ForwardAdapted(Adapted):
    """A conditioned network that has seen a support set.

    It keeps a tensor for each class, in `guides`; the rest as `ForwardSegmenter`.
    """

    functions: ForwardFunctions
    weights: Weights
    guides: tuple[tf.Tensor, ...]

    def predict(self, images: np.ndarray | Features, batch: int = _BATCH) -> np.ndarray:
        """See `Adapted`; `batch` images at a time change nothing but memory."""
        values, result = values_of(images), []
        for i in range(0, len(values), batch):
            part = tf.convert_to_tensor(values[i : i + batch])
            if not isinstance(images, Features):
                part = self.functions.read(self.weights, part)
            found = self._probabilities(self.weights, self.guides, part)
            result.append(found.numpy())
        return np.concatenate(result).astype(np.float32)

    def _probabilities(self, weights, guides, read) -> tf.Tensor:
        logits = [self.functions.logits(weights, guide, read) for guide in guides]
        return tf.nn.softmax(join(logits))

    def served(self) -> Served:
        """See `Adapted`."""

        def probabilities(tensors, images):
            theta, statistics, guides = tensors
            weights = Weights(theta, statistics)
            read = self.functions.read(weights, images)
            return self._probabilities(weights, guides, read)

        tensors = (self.weights.theta, self.weights.statistics, self.guides)
        return Served(tensors, probabilities, self.functions.network.about)


def join(logits: Sequence[tf.Tensor]) -> tf.Tensor:
    """Joins logits [n, H, W, 2] of each class against all else to [n, H, W, K+1].

    Logits of one class, or of a network that tells classes apart itself, stay.
    """
    if len(logits) == 1:
        return logits[0]
    scores = [pair[..., 1] - pair[..., 0] for pair in logits]
    return tf.stack([tf.zeros_like(scores[0]), *scores], axis=-1)
