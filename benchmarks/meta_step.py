"""What a meta-step costs beyond the passes that it consists of.

One FOMAML meta-step of T tasks and K inner iterations is T * K forward-backward
passes with an SGD update each. Both are run in turns, on the same batches'
shapes and the same network, so the ratio holds on a noisy machine.
"""

import argparse
import statistics
import time

import numpy as np
import tensorflow as tf

from efficientlab_tf.checkpoint.run import build_network
from efficientlab_tf.config import LearnerConfig, ModelConfig
from efficientlab_tf.episode import Episode
from efficientlab_tf.learners import build_learner


def random_episodes(tasks: int, shots: int, queries: int, size: int) -> Episode:
    """A meta-batch of one-way episodes of noise."""
    rng = np.random.default_rng(0)

    def images(count):
        return tf.constant(rng.integers(0, 256, (tasks, count, size, size, 3)), "uint8")

    def masks(count):
        return tf.constant(rng.integers(0, 2, (tasks, count, size, size)), "uint8")

    return Episode(images(shots), masks(shots), images(queries), masks(queries), None)


def main(argv: list[str] | None = None) -> int:
    """Prints build time, seconds of both, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--backbone", default="EfficientNetB0")
    parser.add_argument("--meta_batch", type=int, default=5)
    parser.add_argument("--inner_batch", type=int, default=8)
    parser.add_argument("--inner_steps", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(argv)

    batch = options.inner_batch
    network = build_network(
        ModelConfig(image_size=options.image_size, backbone=options.backbone)
    )
    config = LearnerConfig(
        inner_steps=options.inner_steps, inner_batch=batch, augment_rate=0.0
    )
    learner = build_learner(network, config, meta_steps=100)
    state = learner.init()
    # As many queries as an inner batch, so that all passes are of one size.
    episodes = random_episodes(options.meta_batch, batch, batch, options.image_size)
    meta_step = tf.function(learner.meta_step)

    @tf.function
    def one_pass(theta, statistics_, images, masks, seed):
        step = learner.inner.gradient(theta, statistics_, images, masks, seed)
        rate = config.inner_learning_rate
        theta = tuple(t - rate * g for t, g in zip(theta, step.gradient, strict=True))
        return theta, step.statistics

    passes = options.meta_batch * options.inner_steps
    images, masks = episodes.support_images[0], episodes.support_masks[0]
    seed = tf.constant([0, 0])

    start = time.perf_counter()
    concrete = meta_step.get_concrete_function(state, episodes, tf.constant(0))
    traced = time.perf_counter() - start
    _, metrics = meta_step(state, episodes, tf.constant(0))
    float(metrics["loss"])
    built = time.perf_counter() - start
    one_pass(*state.weights[:2], images, masks, seed)

    whole, parts = [], []
    for repeat in range(options.repeats):
        start = time.perf_counter()
        _, metrics = meta_step(state, episodes, tf.constant(repeat))
        float(metrics["loss"])
        whole.append(time.perf_counter() - start)
        weights = state.weights
        start = time.perf_counter()
        for _ in range(passes):
            weights = one_pass(*weights[:2], images, masks, seed)
        weights[0][0].numpy()
        parts.append(time.perf_counter() - start)
    operations = len(concrete.graph.get_operations())
    print(
        f"FOMAML meta-step, {options.backbone}, {options.image_size}x"
        f"{options.image_size}, meta-batch {options.meta_batch}, inner batch {batch}, "
        f"{options.inner_steps} iterations\n"
        f"  build: {traced:.1f} s to trace, {built:.1f} s to the end of the first step "
        f"({operations} operations in the outer graph)\n"
        f"  one meta-step:             {statistics.median(whole):.2f} s\n"
        f"  {passes} isolated passes:        {statistics.median(parts):.2f} s\n"
        f"  ratio (median of {options.repeats} pairs): "
        f"{statistics.median(w / p for w, p in zip(whole, parts, strict=True)):.3f}"
    )
    return 0
