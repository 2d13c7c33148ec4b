"""How meta-steps per second would grow from 1 to 1,024 GPUs.

A simulation. It starts from times that are given, or measured here on this machine's
device: a task's, and what a meta-step takes beside its tasks. A meta-step of T tasks on
R devices takes as long as the slowest device needs for its T / R tasks, and then for
adding up the meta-gradients, a ring of messages (Patarasuk and Yuan 2009):

    2 (R - 1) / R * parameters * 4 bytes / bandwidth  +  2 (R - 1) * latency

Each task of each device takes the time of a measured one, drawn at random.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

DEVICES = tuple(2**i for i in range(11))
STEPS = 200
"""Simulated meta-steps of each point."""


def main(argv: list[str] | None = None) -> int:
    """Prints what part of so many devices is used, and draws it."""
    parser = argparse.ArgumentParser(prog="scaling", description=__doc__.split("\n")[0])
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--backbone", default="EfficientNetB0")
    parser.add_argument("--shots", type=int, default=5, help="and as many queries")
    parser.add_argument("--inner_steps", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument(
        "--task_seconds", type=float, default=0.0, help="of a task; 0 measures it here"
    )
    parser.add_argument("--step_seconds", type=float, default=0.0, help="beside tasks")
    parser.add_argument(
        "--jitter", type=float, default=0.05, help="deviation of a given task's time"
    )
    parser.add_argument("--parameters", type=int, default=0, help="0: of the network")
    parser.add_argument("--tasks", default="16,128,1024", help="of meta-batches")
    parser.add_argument("--gbits", type=float, default=100.0, help="bandwidth")
    parser.add_argument("--latency_us", type=float, default=10.0, help="of a message")
    parser.add_argument(
        "--faster", default="1,100", help="devices are so many times as fast"
    )
    parser.add_argument("--output", type=Path, default=Path("scaling.png"))
    options = parser.parse_args(argv)
    rng = np.random.default_rng(0)
    if options.task_seconds:
        times = rng.normal(1.0, options.jitter, 1000).clip(0.5) * options.task_seconds
        beside, parameters = options.step_seconds, options.parameters
    else:
        times, beside, parameters = measured(options)
        parameters = options.parameters or parameters
    print(
        f"{parameters:,} parameters, {parameters * 4 / 1e6:.1f} MB a meta-step; a task "
        f"takes {np.median(times):.3g} s, the rest {beside:.3g} s; {options.gbits:g} "
        f"Gbit/s, {options.latency_us:g} us"
    )
    panels = {}
    for faster in map(float, options.faster.split(",")):
        curves = panels[faster] = {}
        for tasks in map(int, options.tasks.split(",")):
            seconds = {
                count: simulated(
                    *(times / faster, beside / faster, parameters, tasks, count),
                    *(options, rng),
                )
                for count in DEVICES
                if tasks % count == 0
            }
            curves[tasks] = {c: seconds[1] / s / c for c, s in seconds.items()}
            row = ", ".join(f"{c}: {100 * e:.0f}" for c, e in curves[tasks].items())
            print(
                f"devices {faster:g} times as fast, {tasks} tasks, {seconds[1]:.3g} s "
                f"on one; % of as many times as fast on {row}"
            )
    draw(panels, options.output)
    return 0


def measured(options) -> tuple[np.ndarray, float, int]:
    """Returns a task's times, seconds of a meta-step beside its tasks, parameters."""
    import tensorflow as tf

    from benchmarks.meta_step import random_episodes
    from efficientlab_tf.checkpoint.run import build_network
    from efficientlab_tf.config import LearnerConfig, ModelConfig
    from efficientlab_tf.learners import build_learner
    from efficientlab_tf.training.loop import use_jit

    network = build_network(
        ModelConfig(image_size=options.image_size, backbone=options.backbone)
    )
    config = LearnerConfig(
        inner_steps=options.inner_steps, inner_batch=options.shots, augment_rate=0.0
    )
    learner = build_learner(network, config, meta_steps=100)
    state = learner.init()
    step = tf.function(learner.meta_step, jit_compile=use_jit("auto"))
    seconds = {1: [], 3: []}
    for repeat in range(options.repeats + 1):
        for tasks, spent in seconds.items():
            size = options.shots, options.shots, options.image_size
            batch = random_episodes(tasks, *size)
            start = time.perf_counter()
            _, metrics = step(state, batch, tf.constant(repeat, tf.int64))
            float(metrics["loss"])
            # The first is the one that traces.
            if repeat:
                spent.append(time.perf_counter() - start)
    one, three = (statistics.median(spent) for spent in seconds.values())
    task = (three - one) / 2
    times = np.array(seconds[1]) / one * task
    return times, max(one - task, 0.0), network.model.count_params()


def simulated(times, beside, parameters, tasks, count, options, rng) -> float:
    """Seconds of a meta-step of `tasks` tasks on `count` devices, the mean."""
    drawn = rng.choice(times, (STEPS, count, tasks // count))
    slowest = drawn.sum(axis=2).max(axis=1).mean()
    part = (count - 1) / count
    sent = 2 * part * parameters * 32 / (options.gbits * 1e9)
    return slowest + beside + sent + 2 * (count - 1) * options.latency_us * 1e-6


def draw(panels, path: Path) -> None:
    """Draws what part of so many devices is used, a panel for each speed of devices."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(panels), 3.4), layout="constrained")
    for axes, (faster, curves) in zip(
        np.atleast_1d(figure.subplots(1, len(panels), sharey=True)),
        panels.items(),
        strict=True,
    ):
        for tasks, points in curves.items():
            shares = [100 * share for share in points.values()]
            axes.plot(list(points), shares, marker="o", label=f"{tasks} tasks")
        axes.set_xscale("log", base=4)
        axes.set_xticks(DEVICES[::2], DEVICES[::2])
        axes.set_ylim(0, 105)
        axes.set_title(f"devices {faster:g} times as fast as measured", fontsize=9)
        axes.set_xlabel("devices")
        axes.grid(color="0.9")
    axes.legend(frameon=False, loc="lower left")
    figure.axes[0].set_ylabel("% of as many times as fast")
    figure.savefig(path, dpi=80)
    print(path)
