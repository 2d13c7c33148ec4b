"""What TensorFlow's wrong second derivatives do to MAML's meta-gradient.

    g* = d L(theta_K; query) / d theta_0          exact, as `learners.maml` takes it
    g  = the same by a network of the same values, some of whose layers are Keras's or
         TensorFlow's own: their second derivatives are wrong (docs/second_order.md)

    angle(g, g*) in degrees,  |g| / |g*|,  |g - g*| / |g*|

Measured task by task, from the same weights, with the same mini-batches,
augmentation and dropout, beside the first-order meta-gradient for scale.
"""

import argparse
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from efficientlab_tf.api.loading import load
from efficientlab_tf.checkpoint.run import build_augment, build_network
from efficientlab_tf.config import LearnerConfig, ModelConfig
from efficientlab_tf.data.episodes import fixed_episodes
from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.episode import Episode
from efficientlab_tf.errors import UserError
from efficientlab_tf.evaluation.meta_test import task_seed
from efficientlab_tf.learners import build_learner
from efficientlab_tf.models.layers import BatchNormalization, Resize
from efficientlab_tf.segmenters.network import Network, Weights
from tools.convert import positive_int

IMAGENET = "imagenet"
LOGIT_TOLERANCE = 1e-4
"""Largest difference of logits between variants, relative to the largest logit."""


class TensorFlowResize(Resize):
    """`Resize` by the operation of `tf.image.resize` and `UpSampling2D`."""

    def call(self, inputs):
        resized = tf.raw_ops.ResizeBilinear(
            images=inputs,
            size=[self.height, self.width],
            align_corners=self.align_corners,
            half_pixel_centers=not self.align_corners,
        )
        return tf.cast(resized, inputs.dtype)


class MendedBatchNormalization(keras.layers.BatchNormalization):
    """Keras's layer, its variance by an operation with a right second derivative."""

    def _moments(self, inputs, mask):
        mean = tf.reduce_mean(inputs, self._reduction_axes)
        return mean, tf.math.reduce_variance(inputs, self._reduction_axes)


_KERAS = keras.layers.BatchNormalization
VARIANTS: dict[str, dict[type, type]] = {
    "resize": {Resize: TensorFlowResize},
    "normalization": {BatchNormalization: _KERAS},
    "both": {Resize: TensorFlowResize, BatchNormalization: _KERAS},
    "rounding": {BatchNormalization: MendedBatchNormalization},
}
"""By what is wrong: the layers of ours to replace. In "rounding" nothing is wrong: the
same derivatives in other operations, so what remains is float32."""


def variant(network: Network, name: str) -> Network:
    """Copies a network with other layers of the same values and weights.

    Args:
      network: made of our layers.
      name: one of `VARIANTS`.

    Returns:
      The copy; its weights come in the order of `network`'s.

    Raises:
      ValueError: the copy computes other logits in training mode.
    """
    replacements = VARIANTS[name]

    def replace(layer: keras.layers.Layer) -> keras.layers.Layer:
        made = replacements.get(type(layer), type(layer))
        return made.from_config(layer.get_config())

    model = keras.models.clone_model(network.model, clone_function=replace)
    model.set_weights(network.model.get_weights())
    copy = Network(model)
    height, width, _ = network.image_shape
    images = np.random.default_rng(0).integers(0, 256, [5, height, width, 3])
    ours, theirs = (
        n(*n.weights()[:2], images, training=True, seed=tf.constant([0, 0]))[0].numpy()
        for n in (network, copy)
    )
    difference = np.abs(ours - theirs).max() / np.abs(ours).max()
    if not difference < LOGIT_TOLERANCE:
        raise ValueError(f"variant {name}: logits differ by {difference:.1e} relative")
    return copy


class Deviation(NamedTuple):
    """How far a gradient g is from the exact one, g*.

    Attributes:
      angle: between them, in degrees.
      ratio: |g| / |g*|.
      error: |g - g*| / |g*|.
    """

    angle: float
    ratio: float
    error: float

    @classmethod
    def of(cls, gradient: np.ndarray, exact: np.ndarray) -> "Deviation":
        """Compares two vectors."""
        norm, exact_norm = np.linalg.norm(gradient), np.linalg.norm(exact)
        one, other = gradient / norm, exact / exact_norm
        # arccos of the inner product would be lost in rounding at small angles.
        half = np.arctan2(np.linalg.norm(one - other), np.linalg.norm(one + other))
        return cls(
            float(np.degrees(2 * half)),
            float(norm / exact_norm),
            float(np.linalg.norm(gradient - exact) / exact_norm),
        )


def meta_gradient(
    network: Network, config: LearnerConfig
) -> Callable[[Weights, Episode, tf.Tensor], np.ndarray]:
    """Compiles MAML's meta-gradient of one task.

    `task_update` does not check the network's second derivatives: `meta_step` does.

    Returns:
      (weights, episode, int32 seed [2]) -> float64 vector, all of theta in a row.
    """
    learner = build_learner(
        network,
        config,
        meta_steps=1,
        augment=build_augment(config, config.augment_rate),
    )
    update = tf.function(
        lambda weights, episode, seed: (
            learner.task_update(weights, episode, seed).displacement
        )
    )

    def vector(weights: Weights, episode: Episode, seed: tf.Tensor) -> np.ndarray:
        displacement = update(weights, episode._replace(name=None), seed)
        return -np.concatenate([np.float64(d).ravel() for d in displacement])

    return vector


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table: one gradient, over tasks.

    Attributes:
      start: where theta comes from.
      steps: K, of the inner loop.
      gradient: "first order", or what is wrong.
      deviations: one a task.
    """

    start: str
    steps: int
    gradient: str
    deviations: tuple[Deviation, ...]

    def markdown(self) -> str:
        """Mean and standard deviation over tasks."""
        values = np.array(self.deviations)
        mean, spread = values.mean(0), values.std(0, ddof=1)
        cells = (
            self.start,
            str(self.steps),
            self.gradient,
            f"{mean[0]:.3g} ± {spread[0]:.2g}°",
            f"{mean[1]:.3f} ± {spread[1]:.2g}",
            f"{mean[2]:.2g} ± {spread[2]:.1g}",
        )
        return f"| {' | '.join(cells)} |"


HEADER = (
    "| theta | K | gradient | angle to exact | length / exact | error / exact |\n"
    "|---|---|---|---|---|---|"
)


def measure(
    network: Network,
    starts: dict[str, Weights],
    tasks: Sequence[tuple[Episode, str, int]],
    config: LearnerConfig,
    steps: Iterable[int],
    progress: Callable[[int], object] = lambda done: None,
) -> list[Row]:
    """Compares the wrong meta-gradients with the exact one.

    Args:
      network: made of our layers.
      starts: initializations by name.
      tasks: (episode, class name, number of the class's draw) tuples.
      config: the inner loop; `learner`, `first_order` and `inner_steps` are set here.
      steps: values of K.
      progress: called with 1 after each meta-gradient.

    Returns:
      For each K and start, a row for the first-order gradient and each of `VARIANTS`.
    """
    networks = {"first order": network}
    networks |= {name: variant(network, name) for name in VARIANTS}
    rows = []
    for count in steps:
        setting = dataclasses.replace(config, learner="maml", inner_steps=count)

        def vectors(of: Network, setting=setting, **changes):
            gradient = meta_gradient(of, dataclasses.replace(setting, **changes))
            for start, weights in starts.items():
                for episode, name, draw in tasks:
                    seed = tf.constant([task_seed(name, draw), 0])
                    yield start, gradient(weights, episode, seed)
                    progress(1)

        exact = list(vectors(network))
        for name, of in networks.items():
            deviations: dict[str, list[Deviation]] = {start: [] for start in starts}
            wrong = vectors(of, first_order=name == "first order")
            for (start, gradient), (_, truth) in zip(wrong, exact, strict=True):
                deviations[start].append(Deviation.of(gradient, truth))
            rows += [
                Row(start, count, name, tuple(found))
                for start, found in deviations.items()
            ]
    return sorted(rows, key=lambda row: (list(starts).index(row.start), row.steps))


def _start(source: str, size: int) -> tuple[Network, Weights]:
    """EfficientLab-Lite0 with ImageNet's encoder, or what a .keras file holds."""
    if source != IMAGENET:
        network, weights, *_ = load(source).checkpoint
        return network, weights
    network = build_network(
        ModelConfig(image_size=size, backbone="EfficientNetLite0", weights="imagenet")
    )
    return network, network.weights()


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add(
        "--start",
        action="append",
        help="imagenet, or a .keras file; repeat for more (default: imagenet)",
    )
    add("--dataset_dir", default="sample:icons")
    add("--split", default="test")
    add("--tasks", type=positive_int, default=8, help="classes, evenly spaced")
    add("--steps", type=positive_int, nargs="+", default=[1, 3, 5], metavar="K")
    add("--image_size", type=positive_int, default=96, help="for imagenet alone")
    add("--shots", type=positive_int, default=5)
    add("--queries", type=positive_int, default=5)
    add("--inner_learning_rate", type=float, default=0.01)
    options = parser.parse_args(argv)

    # One function is compiled for each gradient, which TensorFlow warns of.
    tf.get_logger().setLevel("ERROR")
    if options.tasks < 2:
        raise UserError("--tasks must be at least 2 for a spread, received 1")
    loaded = {
        source: _start(source, options.image_size)
        for source in options.start or [IMAGENET]
    }
    network = next(iter(loaded.values()))[0]
    for source, (other, _) in loaded.items():
        if [v.shape for v in other.model.weights] != [
            v.shape for v in network.model.weights
        ] or other.image_shape != network.image_shape:
            raise UserError(
                f"--start={source}: expected the network of the first --start, "
                "received another; measure it by itself"
            )
    manifest = Manifest.load(options.dataset_dir)
    names = sorted(manifest.split(options.split))
    chosen = np.linspace(0, len(names) - 1, min(options.tasks, len(names)))
    tasks = list(
        fixed_episodes(
            manifest,
            [names[int(i)] for i in chosen],
            shots=options.shots,
            queries=options.queries,
            seed=0,
            image_size=network.image_shape[0],
        )
    )
    config = LearnerConfig(
        inner_learning_rate=options.inner_learning_rate, inner_batch=0
    )
    total = len(tasks) * len(loaded) * len(options.steps) * (len(VARIANTS) + 2)
    with tqdm(total=total, unit="gradient", dynamic_ncols=True) as bar:
        starts = {source: weights for source, (_, weights) in loaded.items()}
        rows = measure(network, starts, tasks, config, options.steps, bar.update)
    print(f"{len(tasks)} tasks: {', '.join(name for _, name, _ in tasks)}\n\n{HEADER}")
    for row in rows:
        print(row.markdown())
    return 0
