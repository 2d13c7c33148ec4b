"""Short meta-trainings with the exact, the wrong and the first-order meta-gradient.

All start from the same weights and see the same episodes, mini-batches,
augmentation and dropout; only the layers that the meta-gradient is taken through
differ (see `second_order_error`). Meta-testing is the same for all of them.
"""

import argparse
import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from tqdm import tqdm

from benchmarks.second_order_error import variant
from efficientlab_tf.checkpoint.run import (
    build_augment,
    build_inner_loop,
    build_network,
)
from efficientlab_tf.config import LearnerConfig, ModelConfig
from efficientlab_tf.data.episodes import episode_dataset, fixed_episodes
from efficientlab_tf.errors import UserError
from efficientlab_tf.evaluation.meta_test import evaluate
from efficientlab_tf.files import save_figure, write_text
from efficientlab_tf.learners import MetaState, build_learner
from efficientlab_tf.learners.meta_optimizer import meta_optimizer
from efficientlab_tf.metrics import Interval
from efficientlab_tf.segmenters.gradient import AdaptFunctions
from efficientlab_tf.segmenters.network import Network
from tools.convert import positive_int

GRADIENTS = ("exact", "wrong", "first order")
_COLORS = dict(zip(GRADIENTS, ("tab:blue", "tab:red", "tab:gray"), strict=True))


@dataclasses.dataclass(frozen=True)
class Settings:
    """A run, but for its meta-gradient and its seed."""

    dataset_dir: str
    image_size: int
    shots: int
    queries: int
    meta_steps: int
    meta_batch: int
    learner: LearnerConfig


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one run came to.

    Attributes:
      gradient: one of `GRADIENTS`.
      seed: of initial weights, episodes and all else.
      soft_ious: the query's soft IoU after adaptation, at each meta-step, before its
        update.
      ious: the per-image IoU of each held-out task, the same tasks for all runs.
    """

    gradient: str
    seed: int
    soft_ious: tuple[float, ...]
    ious: tuple[float, ...]


def initial_network(settings: Settings, seed: int) -> Network:
    """EfficientLab on Lite0 with ImageNet's weights; the decoder's are `seed`'s."""
    config = ModelConfig(
        image_size=settings.image_size,
        backbone="EfficientNetLite0",
        weights="imagenet",
    )
    return build_network(config, seed)


def meta_train(
    network: Network,
    gradient: str,
    settings: Settings,
    seed: int,
    progress: Callable[[int], object] = lambda done: None,
) -> tuple[MetaState, tuple[float, ...]]:
    """Meta-trains with one of the meta-gradients.

    Args:
      network: made of our layers; its variables are overwritten.
      gradient: one of `GRADIENTS`; "wrong" replaces resize and normalization.
      settings: the run.
      seed: of episodes, mini-batches, augmentation and dropout.
      progress: called with 1 after each meta-step.

    Returns:
      The last state, its weights in the order of `network`'s, and the soft IoU of
      each meta-step, see `Outcome`.

    Raises:
      UserError: a loss is not finite.
    """
    if gradient == "wrong":
        network = variant(network, "both")
    config = dataclasses.replace(
        settings.learner, first_order=gradient == "first order"
    )
    learner = build_learner(
        network,
        config,
        meta_steps=settings.meta_steps,
        seed=seed,
        augment=build_augment(config, config.augment_rate),
    )
    # `Learner.meta_step` refuses a network with wrong second derivatives. This is what
    # it does apart from that.
    optimizer = meta_optimizer(
        config.meta_optimizer,
        network.model.trainable_variables,
        learner.displacement_scale,
    )

    @tf.function
    def meta_step(state, episodes, step):
        update = learner.displacement(state, episodes, step)
        theta, slots = optimizer.apply(
            state.theta,
            update.displacement,
            state.optimizer,
            tf.cast(learner.schedule(step), tf.float32),
        )
        new = state._replace(theta=theta, statistics=update.statistics, optimizer=slots)
        return new, update.metrics

    episodes = episode_dataset(
        settings.dataset_dir,
        "train",
        shots=settings.shots,
        queries=settings.queries,
        seed=seed,
        image_size=settings.image_size,
        meta_batch=settings.meta_batch,
    ).take(settings.meta_steps)
    weights = network.weights()
    state = learner.init()._replace(
        theta=weights.theta,
        statistics=weights.statistics,
        optimizer=optimizer.init(),
    )
    soft_ious = []
    for step, batch in enumerate(episodes):
        state, metrics = meta_step(state, batch._replace(name=None), tf.constant(step))
        loss = float(metrics["loss"])
        if not np.isfinite(loss):
            raise UserError(
                f"{gradient}, seed {seed}: the loss of step {step} is {loss}; "
                "lower --inner_learning_rate or --meta_learning_rate"
            )
        soft_ious.append(float(metrics["soft_iou"]))
        progress(1)
    return state, tuple(soft_ious)


def smoothed(values: Sequence[float], width: int) -> np.ndarray:
    """Means over `width` neighbours, [len - width + 1]."""
    return np.convolve(values, np.full(width, 1 / width), "valid")


def curves(outcomes: Sequence[Outcome], width: int) -> Figure:
    """Draws the soft IoUs, smoothed over `width` meta-steps: a line a run."""
    figure = Figure(figsize=(7.6, 4.2), layout="constrained")
    axes = figure.subplots()
    lines = {}
    for outcome in outcomes:
        line = smoothed(outcome.soft_ious, width)
        lines[outcome.gradient] = axes.plot(
            np.arange(len(line)) + width / 2, line, color=_COLORS[outcome.gradient]
        )[0]
    axes.set_xlabel(f"meta-step; a line a seed, mean over {width} steps")
    axes.set_ylabel("soft IoU of the query")
    axes.grid(alpha=0.25)
    axes.legend(lines.values(), lines, loc="lower right")
    return figure


def table(outcomes: Sequence[Outcome], last: int) -> str:
    """Meta-test and training in Markdown; differences are task by task, seed by seed.

    Args:
      outcomes: of all gradients and seeds; each seed has an "exact" one.
      last: meta-steps at the end of a run to average over.
    """
    exact = {o.seed: o for o in outcomes if o.gradient == "exact"}
    lines = [
        f"| meta-gradient | seed | training query, last {last} steps, soft IoU % | "
        "held-out IoU % | minus exact |",
        "|---|---|---|---|---|",
    ]

    def line(name, seed, soft_ious, ious, baseline):
        gain = "" if name == "exact" else f"{Interval.of(ious - baseline)}"
        lines.append(
            f"| {name} | {seed} | {100 * soft_ious.mean():.2f} | {Interval.of(ious)} "
            f"| {gain} |"
        )

    for name in dict.fromkeys(o.gradient for o in outcomes):
        own = [o for o in outcomes if o.gradient == name]
        ious, baseline = (
            np.array([o.ious for o in runs])
            for runs in (own, [exact[o.seed] for o in own])
        )
        soft_ious = np.array([o.soft_ious[-last:] for o in own])
        for i, outcome in enumerate(own):
            line(name, outcome.seed, soft_ious[i], ious[i], baseline[i])
        if len(own) > 1:
            # The same tasks for all seeds: those are not independent, so average.
            line(name, "mean", soft_ious, ious.mean(0), baseline.mean(0))
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Writes run.json and run.png, prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--output_dir", type=Path, required=True)
    add("--gradients", nargs="+", choices=GRADIENTS, default=list(GRADIENTS))
    add("--seeds", type=int, nargs="+", default=[0, 1])
    add("--dataset_dir", default="sample:icons")
    add("--image_size", type=positive_int, default=64)
    add("--shots", type=positive_int, default=5)
    add("--queries", type=positive_int, default=5)
    add("--inner_steps", type=positive_int, default=3)
    add("--inner_learning_rate", type=float, default=0.01)
    add("--meta_steps", type=positive_int, default=250)
    add("--meta_batch", type=positive_int, default=1)
    add("--meta_learning_rate", type=float, default=1e-3)
    add("--splits_per_task", type=positive_int, default=2)
    add("--smooth", type=positive_int, default=50, help="meta-steps, of the curves")
    options = parser.parse_args(argv)

    if "exact" not in options.gradients:
        raise UserError("--gradients: expected exact among them, to compare with")
    if options.smooth > options.meta_steps:
        raise UserError(
            f"--smooth={options.smooth} must not exceed --meta_steps="
            f"{options.meta_steps}; lower it"
        )
    settings = Settings(
        options.dataset_dir,
        options.image_size,
        options.shots,
        options.queries,
        options.meta_steps,
        options.meta_batch,
        LearnerConfig(
            learner="maml",
            inner_learning_rate=options.inner_learning_rate,
            inner_steps=options.inner_steps,
            inner_batch=0,
            meta_optimizer="adam",
            meta_learning_rate=options.meta_learning_rate,
            meta_learning_rate_final=options.meta_learning_rate / 10,
        ),
    )
    tester = initial_network(settings, 0)
    functions = AdaptFunctions(build_inner_loop(settings.learner, tester))
    tasks = list(
        fixed_episodes(
            settings.dataset_dir,
            "test",
            shots=settings.shots,
            splits_per_task=options.splits_per_task,
            seed=0,
            image_size=settings.image_size,
        )
    )
    try:
        options.output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot write to --output_dir {options.output_dir}: {error.strerror}; "
            "choose a folder that you may write to"
        ) from error
    outcomes = []
    for seed in options.seeds:
        for gradient in options.gradients:
            with tqdm(
                total=settings.meta_steps,
                desc=f"seed {seed}, {gradient}",
                unit="step",
                dynamic_ncols=True,
            ) as bar:
                network = initial_network(settings, seed)
                state, soft_ious = meta_train(
                    network, gradient, settings, seed, bar.update
                )
            segmenter = functions.segmenter(
                state.weights,
                learning_rate=settings.learner.inner_learning_rate,
                steps=settings.learner.inner_steps,
                batch_norm="support",
            )
            ious = tuple(result.iou for result in evaluate(segmenter, tasks))
            outcomes.append(Outcome(gradient, seed, soft_ious, ious))
            write_text(
                options.output_dir / "run.json",
                json.dumps([dataclasses.asdict(outcome) for outcome in outcomes]),
            )
    outcomes.sort(key=lambda o: GRADIENTS.index(o.gradient))
    save_figure(curves(outcomes, options.smooth), options.output_dir / "run.png")
    print(f"{len(tasks)} held-out tasks\n\n{table(outcomes, options.smooth)}")
    return 0
