"""Conditioned networks as segmenters: one forward pass reads a support set.

guide  = support branch(support images, support masks)     once, for each class
logits = segmentation(guide, query images)
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from efficientlab_tf.episode import IGNORE
from efficientlab_tf.errors import UserError
from efficientlab_tf.models.conditioned import GUIDE, split
from efficientlab_tf.segmenters.network import Network, Part, Weights


class ForwardFunctions:
    """The two halves of a conditioned network, compiled once.

    Args:
      network: a conditioned network.
    """

    def __init__(self, network: Network):
        self.network = network
        guide, segment = split(network.model)
        self._guide, self._segment = Part(network, guide), Part(network, segment)
        self.guide = tf.function(self._guide_graph, reduce_retracing=True)
        self.logits = tf.function(self._logits_graph, reduce_retracing=True)

    def segmenter(
        self,
        weights: Weights,
        *,
        learning_rate: float = 0.0,
        steps: int = 0,
        batch_norm: str = "running",
    ) -> "ForwardSegmenter":
        """Returns a segmenter with these weights.

        The inner loop's settings have no meaning here and are not looked at.

        Raises:
          UserError: `batch_norm` is not "running".
        """
        if batch_norm != "running":
            raise UserError(
                f"--batch_norm must be running for {self.network.model.name}, received "
                f"{batch_norm}: a network without an inner loop has no other statistics"
            )
        return ForwardSegmenter(self, weights)

    def _guide_graph(self, weights, images, masks):
        inputs = {"support_images": images, "support_masks": masks}
        return self._guide(weights, inputs)[0]

    def _logits_graph(self, weights, guide, images):
        inputs = {GUIDE: guide, "query_images": images}
        return self._segment(weights, inputs)[0]


@dataclasses.dataclass(frozen=True)
class ForwardSegmenter:
    """Segments with a conditioned network.

    A network for one class tells several apart with a guide for each: with s_c the
    log-odds of class c against all else, p = softmax(0, s_1, ..., s_K).

    Attributes:
      functions: the network's.
      weights: of the network.
    """

    functions: ForwardFunctions
    weights: Weights

    def adapt(
        self, support_images: np.ndarray, support_masks: np.ndarray, *, seed: int = 0
    ) -> "Guided":
        """Reads a support set, all its images in one batch, once for each class.

        Args:
          support_images: uint8 [k, H, W, 3], 0..255.
          support_masks: uint8 [k, H, W]; 0..K, 255 unknown.
          seed: nothing is random here.
        """
        images = tf.convert_to_tensor(support_images)
        masks = np.asarray(support_masks)
        ways = 1
        if self.functions.network.classes == 1:
            ways = max(1, int(masks[masks != IGNORE].max(initial=0)))
        guides = []
        for way in range(1, ways + 1):
            own = masks
            if ways > 1:
                own = np.where(masks == IGNORE, masks, masks == way).astype(np.uint8)
            guide = self.functions.guide(
                self.weights, images, tf.convert_to_tensor(own)
            )
            guides.append(guide)
        return Guided(self.functions, self.weights, tuple(guides))

    def walk(
        self, support_images: np.ndarray, support_masks: np.ndarray, *, seed: int = 0
    ) -> Iterator["Guided"]:
        """Yields what `adapt` gives: there are no steps to follow."""
        yield self.adapt(support_images, support_masks, seed=seed)


@dataclasses.dataclass(frozen=True)
class Guided:
    """A conditioned network that has seen a support set.

    Attributes:
      functions: see `ForwardSegmenter`.
      weights: see `ForwardSegmenter`.
      guides: all that it keeps of the support set, for each class a tensor.
    """

    functions: ForwardFunctions
    weights: Weights
    guides: tuple[tf.Tensor, ...]

    @property
    def losses(self) -> tf.Tensor:
        """The losses of its inner loop: none, float [0]."""
        return tf.zeros([0])

    def predict(self, query_images: np.ndarray, batch: int = 8) -> np.ndarray:
        """Predicts class probabilities.

        Args:
          query_images: uint8 or float [n, H, W, 3], 0..255.
          batch: images at a time; it changes nothing but memory.

        Returns:
          float32 [n, H, W, K+1].
        """
        parts = []
        for i in range(0, len(query_images), batch):
            images = tf.convert_to_tensor(query_images[i : i + batch])
            logits = [
                self.functions.logits(self.weights, guide, images)
                for guide in self.guides
            ]
            parts.append(tf.nn.softmax(join(logits)).numpy())
        return np.concatenate(parts).astype(np.float32)


def join(logits: Sequence[tf.Tensor]) -> tf.Tensor:
    """Joins logits [n, H, W, 2] of each class against all else to [n, H, W, K+1].

    Logits of one class, or of a network that tells classes apart itself, stay.
    """
    if len(logits) == 1:
        return logits[0]
    scores = [pair[..., 1] - pair[..., 0] for pair in logits]
    return tf.stack([tf.zeros_like(scores[0]), *scores], axis=-1)
