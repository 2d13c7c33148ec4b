"""Adapting to labelled pictures beside fine-tuning the same network by Keras's `fit`.

Both take as many steps of gradient descent on all pictures, from the same weights, with
the cross-entropy alone, and both are compiled before they are measured, in turns.
"""

import argparse
import statistics
import time

import keras
import numpy as np
import tensorflow as tf

from efficientlab_tf.checkpoint.run import build_functions
from efficientlab_tf.config import LearnerConfig
from efficientlab_tf.losses import cross_entropy
from efficientlab_tf.models import build_model
from efficientlab_tf.segmenters.network import Network


def main(argv: list[str] | None = None) -> int:
    """Measures, prints, and returns the exit status.

    Args:
      argv: command line arguments, see `--help`.
    """
    parser = argparse.ArgumentParser(
        prog="fine_tuning",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--backbone", default="EfficientNetLite0")
    add("--image_size", type=int, default=96)
    add("--shots", type=int, default=5, help="labelled pictures")
    add("--steps", type=int, default=20)
    add("--learning_rate", type=float, default=0.001)
    add("--repeats", type=int, default=5, help="pairs behind the median")
    options = parser.parse_args(argv)

    keras.utils.set_random_seed(0)
    size, steps, rate = options.image_size, options.steps, options.learning_rate
    model = build_model(
        "efficientlab",
        image_size=size,
        backbone=options.backbone,
        final_dropout=0.0,
        drop_connect=0.0,
    )
    network = Network(model)
    learner = LearnerConfig(
        inner_steps=steps,
        inner_learning_rate=rate,
        inner_batch=0,
        augment_rate=0.0,
        loss="cross_entropy",
        l2=0.0,
    )
    segmenter = build_functions(learner, network).segmenter(
        network.weights(), learning_rate=rate, steps=steps, batch_norm="running"
    )
    random = np.random.default_rng(0)
    images = random.integers(0, 256, [options.shots, size, size, 3], np.uint8)
    masks = random.integers(0, 2, [options.shots, size, size], np.uint8)
    model.compile(keras.optimizers.SGD(rate), _loss)
    start = model.get_weights()

    def adapt() -> np.ndarray:
        return segmenter.adapt(images, masks).predict(images)

    def fit() -> np.ndarray:
        model.set_weights(start)
        model.fit(
            images.astype(np.float32),
            masks,
            batch_size=options.shots,
            epochs=steps,
            shuffle=False,
            verbose=0,
        )
        return keras.ops.softmax(model.predict_on_batch(images)).numpy()

    ours, theirs = adapt(), fit()
    pairs = []
    for _ in range(options.repeats):
        seconds = []
        for run in (adapt, fit):
            begun = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - begun)
        pairs.append(seconds)
    medians = [statistics.median(own) for own in zip(*pairs, strict=True)]
    ratio = statistics.median(one / other for one, other in pairs)
    print(
        f"fine-tuning: {options.backbone}, {size}x{size}, {options.shots} pictures, "
        f"{steps} steps\n"
        f"  adapt      {medians[0]:6.2f} s\n"
        f"  Keras fit  {medians[1]:6.2f} s\n"
        f"  ratio, median of {options.repeats} pairs: {ratio:.2f}; probabilities "
        f"differ by at most {np.abs(ours - theirs).max():.1e}"
    )
    return 0


def _loss(masks: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    return cross_entropy(logits, tf.cast(masks, tf.uint8))
