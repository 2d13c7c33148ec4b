"""Learning to segment in a forward pass (Shaban et al. 2017, section 4.3).

    logits = f(theta; D_support, query images)           a conditioned network
    theta <- theta - eps * mean over tasks of dL(logits, query masks)/dtheta

The network itself turns a support set into a guide, so a new task costs one forward
pass of its support set and no gradient. Each training task is an episode as in
meta-testing.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from efficientlab_tf.config import LearnerConfig
from efficientlab_tf.episode import IGNORE, Episode
from efficientlab_tf.errors import UserError
from efficientlab_tf.learners.base import Learner, TaskUpdate
from efficientlab_tf.learners.network import Network, Part, Weights
from efficientlab_tf.models.conditioned import GUIDE, is_conditioned, split
from efficientlab_tf.models.oslsm import rate_multipliers


class Feedforward(Learner):
    """Trains a conditioned network on episodes.

    Raises:
      UserError: the network is not conditioned on a support set, has no conditioning
        branch to scale the rate of, or only a part of it is to be adapted.
    """

    metric_names = ("loss", "cross_entropy", "soft_iou")

    def __init__(self, network: Network, config: LearnerConfig, **options):
        if not is_conditioned(network.model):
            raise UserError(
                f"--learner={config.learner} needs a network that is conditioned on a "
                f"support set, received {network.model.name}; give --model=oslsm"
            )
        if config.adapt != "all":
            raise UserError(
                f"--adapt must be all for {config.learner}, received {config.adapt}: "
                "it has no inner loop"
            )
        super().__init__(network, config, **options)
        self._factors = (1.0,) * len(network.model.trainable_variables)
        if config.conditioning_rate != 1:
            self._factors = rate_multipliers(network.model, config.conditioning_rate)

    def task_update(
        self,
        weights: Weights,
        episode: Episode,
        seed: tf.Tensor,
        step: tf.Tensor | int = 0,
    ) -> TaskUpdate:
        """See the module."""
        theta = tuple(weights.theta)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(theta)
            loss, metrics, statistics = self.loss(
                weights._replace(theta=theta), episode, seed
            )
        gradient = tape.gradient(
            loss, theta, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        displacement = tuple(
            -factor * g for factor, g in zip(self._factors, gradient, strict=True)
        )
        return TaskUpdate(displacement, statistics, metrics)

    def loss(
        self, weights: Weights, episode: Episode, seed: tf.Tensor
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor], tuple[tf.Tensor, ...]]:
        """Returns the loss of an episode, its metrics and the updated statistics."""
        logits, statistics = self.network(
            weights.theta,
            weights.statistics,
            network_inputs(episode),
            training=True,
            seed=seed,
        )
        loss, parts = self.inner.objective(
            logits, episode.query_masks, weights.theta, self.network.decayed
        )
        zero = tf.zeros_like(loss)
        metrics = {name: parts.get(name, zero) for name in self.metric_names}
        return loss, metrics | {"loss": loss}, statistics


def network_inputs(episode: Episode) -> dict[str, tf.Tensor]:
    """The inputs of a conditioned network, by name."""
    return {
        "support_images": episode.support_images,
        "support_masks": episode.support_masks,
        "query_images": episode.query_images,
    }


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
