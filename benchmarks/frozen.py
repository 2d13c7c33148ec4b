"""How much faster meta-training is where the encoder is frozen and read once.

FOMAML on the whole of EfficientLab-Lite0 is measured beside learners behind the same
encoder, frozen, whose features are computed once an episode (`--freeze_features
--reuse_episodes`): FOMAML and MAML of the decoder, and a closed-form network of which
the decoder is trained. All take meta-steps of one task in turns, of the same episode.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import tensorflow as tf

from benchmarks.meta_step import random_episodes
from efficientlab_tf.checkpoint.run import build_network
from efficientlab_tf.config import LearnerConfig, ModelConfig
from efficientlab_tf.episode import Episode
from efficientlab_tf.learners import build_learner

_WHOLE = "fomaml, whole network"


def _learners(size: int, steps: int) -> dict[str, tuple[ModelConfig, LearnerConfig]]:
    lab = ModelConfig(image_size=size, backbone="EfficientNetLite0", drop_connect=0.0)
    frozen = ModelConfig(
        image_size=size,
        backbone="EfficientNetLite0",
        drop_connect=0.0,
        freeze_features=True,
    )
    solved = ModelConfig(
        network="closed_form",
        image_size=size,
        backbone="EfficientNetLite0",
        freeze_features=True,
        freeze_classifiers=True,
    )
    inner = {"inner_steps": steps, "augment_rate": 0.0}
    return {
        _WHOLE: (lab, LearnerConfig(learner="fomaml", **inner)),
        "fomaml, frozen encoder": (frozen, LearnerConfig(learner="fomaml", **inner)),
        "maml, frozen encoder": (frozen, LearnerConfig(learner="maml", **inner)),
        "closed_form, frozen encoder": (
            solved,
            LearnerConfig(learner="feedforward", inner_steps=0, augment_rate=0.0),
        ),
    }


def _stepper(
    model: ModelConfig, config: LearnerConfig, episode: Episode
) -> tuple[Callable[[int], None], float]:
    """A function that takes a meta-step, and the seconds that preparation took."""
    learner = build_learner(build_network(model), config, meta_steps=100)
    prepared, seconds = episode, 0.0
    if model.freeze_features:
        prepare = tf.function(learner.preparation())
        one = Episode(*(field[0] for field in episode[:4]), "")
        prepare(tf.constant(0), one)
        start = time.perf_counter()
        made = prepare(tf.constant(0), one)[:4]
        seconds = time.perf_counter() - start
        prepared = Episode(*tf.nest.map_structure(lambda x: x[tf.newaxis], made), None)
    state, step = learner.init(), tf.function(learner.meta_step)

    def take(number: int) -> None:
        float(step(state, prepared, tf.constant(number))[1]["loss"])

    take(0)
    return take, seconds


def main(argv: list[str] | None = None) -> int:
    """Prints seconds a meta-step and how many times FOMAML's rate that is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image_size", type=int, default=128)
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--queries", type=int, default=5)
    parser.add_argument("--inner_steps", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args(argv)
    episode = random_episodes(1, options.shots, options.queries, options.image_size)
    steppers = {
        name: _stepper(*configs, episode)
        for name, configs in _learners(options.image_size, options.inner_steps).items()
    }
    taken: dict[str, list[float]] = {name: [] for name in steppers}
    for number in range(options.repeats):
        for name, (take, _) in steppers.items():
            start = time.perf_counter()
            take(number)
            taken[name].append(time.perf_counter() - start)
    print(
        f"meta-steps of one task, EfficientNet-Lite0, {options.image_size} pixels, "
        f"{options.shots} shots, {options.queries} queries, {options.inner_steps} "
        f"inner steps; medians of {options.repeats} turns"
    )
    for name, (_, seconds) in steppers.items():
        ratio = statistics.median(
            whole / own for whole, own in zip(taken[_WHOLE], taken[name], strict=True)
        )
        once = f", once {seconds:.3f} s to read an episode" if seconds else ""
        print(
            f"  {name:<28} {statistics.median(taken[name]):.4f} s, "
            f"{ratio:.1f} times as fast{once}"
        )
    return 0
