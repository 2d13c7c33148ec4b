"""How many weights a run's network has, and how long an epoch of its training takes.

Takes a run's flagfile, and meta-steps of it on pictures of noise, so that no dataset is
needed; what reading a dataset costs beside a meta-step is not counted. An epoch is as
many meta-steps as it takes until each training class had its turn: Meta-DRN's (Banerjee
2020, table I) are 700 classes of FSS-1000, five a step.
"""

import argparse
import statistics
import time

import tensorflow as tf
from absl import flags as absl_flags

from benchmarks.meta_step import random_episodes
from efficientlab_tf import flags
from efficientlab_tf.checkpoint.run import RunConfig, build_network
from efficientlab_tf.config import DataConfig, LearnerConfig, ModelConfig, TrainConfig
from efficientlab_tf.training.learner import build_run_learner
from efficientlab_tf.xla import use_jit


def main(argv: list[str] | None = None) -> int:
    """Prints weights, seconds a meta-step and minutes an epoch."""
    parser = argparse.ArgumentParser(prog="epoch", description=__doc__.splitlines()[0])
    parser.add_argument("flagfile", help="of a run, such as flags/icons_fomaml.flags")
    parser.add_argument("--classes", type=int, default=700, help="of an epoch")
    parser.add_argument("--repeats", type=int, default=3, help="meta-steps timed")
    options, changes = parser.parse_known_args(argv)
    groups = DataConfig, ModelConfig, LearnerConfig, TrainConfig
    flags.define(*groups)
    absl_flags.FLAGS(["epoch", f"--flagfile={options.flagfile}", *changes])
    run = RunConfig(*map(flags.read, groups))
    network = build_network(run.model, run.train.seed)
    learner = build_run_learner(run, network)
    state = learner.init()
    data, tasks = run.data, run.train.meta_batch
    episodes = random_episodes(tasks, data.shots, data.queries, run.model.image_size)
    step = tf.function(learner.meta_step, jit_compile=use_jit(run.train.jit))
    seconds = []
    for repeat in range(options.repeats + 1):
        start = time.perf_counter()
        _, metrics = step(state, episodes, tf.constant(repeat, tf.int64))
        float(metrics["loss"])
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds[1:])
    steps = -(-options.classes // tasks)
    total = run.train.meta_steps * median / 3600
    print(
        f"{options.flagfile}: {network.about}\n"
        f"  the first meta-step, with its graph: {seconds[0]:.1f} s\n"
        f"  a meta-step of {tasks} tasks, median of {options.repeats}: {median:.2f} s\n"
        f"  an epoch of {options.classes} classes, {steps} meta-steps: "
        f"{steps * median / 60:.1f} minutes\n"
        f"  all {run.train.meta_steps} meta-steps: {total:.1f} hours"
    )
    return 0
