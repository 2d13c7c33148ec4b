"""A training of seconds, in a process that may be killed."""

import contextlib
import dataclasses
import os
import signal
import sys
from pathlib import Path
from unittest import mock

import keras
import psutil

from efficientlab_tf.checkpoint import files
from efficientlab_tf.checkpoint.run import RunConfig
from efficientlab_tf.config import DataConfig, LearnerConfig, ModelConfig, TrainConfig
from efficientlab_tf.errors import UserError
from efficientlab_tf.segmenters.network import Network
from efficientlab_tf.training import loop
from efficientlab_tf.training.summaries import Summaries
from tests.forked import CONTEXT
from tests.models.tiny import tiny_network

STEPS = 20
PATIENCE = 1800
"""Seconds, for machines that have much else to do."""


def config_of(folder: Path, run: str, **changes) -> RunConfig:
    """A run with all that a state has: averages, Adam's moments, plateaus, a best."""
    train = TrainConfig(
        run_dir=str(folder / run),
        meta_steps=STEPS,
        meta_batch=1,
        validate_every=3,
        val_episodes=1,
        log_every=1,
        save_every=2,
    )
    return RunConfig(
        DataConfig(
            dataset_dir="sample:nuclei",
            train_split="test",
            val_split="test",
            shots=2,
            queries=2,
            cache_gb=0.1,
        ),
        ModelConfig(image_size=32, final_dropout=0.2),
        LearnerConfig(
            inner_learning_rate=0.05,
            inner_steps=2,
            inner_batch=0,
            meta_optimizer="adam",
            meta_learning_rate=1e-2,
            batch_norm="running",
            halve_after=1,
        ),
        dataclasses.replace(train, **changes),
    )


def _tiny(config: ModelConfig, seed: int = 0) -> Network:
    keras.utils.set_random_seed(seed)
    return Network(tiny_network(config.image_size, dropout=config.final_dropout))


class Counts:
    """Traces of the meta-step, and resident bytes behind each step."""

    def __init__(self):
        self.traces, self.resident = 0, []

    def learner(self, *arguments):
        """Builds a run's learner, whose meta-step counts its traces."""
        learner = _build_learner(*arguments)
        meta_step = learner.meta_step

        def counted(*arguments):
            self.traces += 1
            return meta_step(*arguments)

        learner.meta_step = counted
        return learner


_build_learner = loop.build_run_learner


def train(
    config: RunConfig, resume: bool, step, counts=None, cluster="", err=None
) -> None:
    """Trains the tiny network; `step` is a shared value: what was last logged.

    Args:
      config: the run.
      resume: whether it goes on.
      step: see above.
      counts: a queue for the `Counts`.
      cluster: TF_CONFIG.
      err: a file for stderr; a `UserError` ends the process with status 2.
    """
    scalars, found = Summaries.scalars, Counts()
    if cluster:
        os.environ["TF_CONFIG"] = cluster
    if err:
        os.dup2(os.open(err, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)

    def logged(self, values, number):
        scalars(self, values, number)
        step.value = number
        found.resident.append(psutil.Process().memory_info().rss)

    with (
        mock.patch.object(loop, "build_network", _tiny),
        mock.patch.object(files, "build_network", _tiny),
        mock.patch.object(loop, "build_run_learner", found.learner),
        mock.patch.object(Summaries, "scalars", logged),
    ):
        try:
            loop.train(config, resume=resume)
        except UserError as error:
            print(error, file=sys.stderr, flush=True)
            sys.exit(2)
    if counts is not None:
        counts.put((found.traces, found.resident))


def started(config: RunConfig, resume: bool = False, *arguments):
    """Starts a training in a process of its own; returns it and its step.

    Args:
      config: the run.
      resume: whether it goes on.
      *arguments: more of `train`'s.
    """
    # Without a lock, which a killed process would hold for ever.
    step = CONTEXT.Value("i", 0, lock=False)
    process = CONTEXT.Process(target=train, args=(config, resume, step, *arguments))
    process.start()
    return process, step


def finished(config: RunConfig, resume: bool = False) -> None:
    """Trains to the end in a process of its own."""
    process, _ = started(config, resume)
    process.join(PATIENCE)
    assert process.exitcode == 0


def has_state(config: RunConfig) -> bool:
    """Whether there is something to resume from."""
    return bool(list(Path(config.train.run_dir).glob("*/*.index")))


def kill(process, number: signal.Signals) -> None:
    """Sends a signal and waits for the end."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, number)
    process.join(PATIENCE)
    assert process.exitcode is not None
