"""A search on one machine: what is searched, and the processes that run its trials."""

import contextlib
import dataclasses
import hashlib
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import tensorflow as tf
from optuna.trial import TrialState
from tqdm import tqdm

from efficientlab_tf.api.loading import load
from efficientlab_tf.api.networks import GradientModel
from efficientlab_tf.checkpoint.run import RunConfig
from efficientlab_tf.checkpoint.tuned import final_dropout, fingerprint
from efficientlab_tf.config import DataConfig, TuneConfig
from efficientlab_tf.errors import UserError, run_command
from efficientlab_tf.evaluation.meta_test import open_dataset, require_one_way
from efficientlab_tf.hyperparameters import study, uho
from efficientlab_tf.hyperparameters.objective import (
    Objective,
    choose_tasks,
    load_tasks,
)
from efficientlab_tf.hyperparameters.report import log_trial
from efficientlab_tf.segmenters.network import Network, Weights
from efficientlab_tf.streaming import cores

_UNTUNED = "untuned_score"


@dataclasses.dataclass(frozen=True)
class Job:
    """What a worker process is told: plain values, the same for all of them.

    Attributes:
      model: its path.
      output: the folder of the search.
      data: the dataset, and the shots of a task.
      queries: of a task; 0 takes all examples of the class that are not support.
      batch_norm: see `GradientSegmenter`.
      jit: see `xla.use_jit`.
      tune: the search.
      storage: URL of a database; if empty, a file in the output folder.
    """

    model: str
    output: str
    data: DataConfig
    queries: int
    batch_norm: str
    jit: str
    tune: TuneConfig
    storage: str = ""


def load_tunable(source: str) -> GradientModel:
    """Loads a model, see `api.loading.load`, without what was tuned before.

    Raises:
      UserError: it has no inner loop.
    """
    model = load(source, tuned=False)
    if not isinstance(model, GradientModel):
        raise UserError(
            f"{source} has no inner loop to tune; give a model that was trained with "
            "one"
        )
    return model


class Search:
    """A search that is ready to run.

    Args:
      job: what to search, and on what.
      model: the initialization, loaded without what was tuned before.

    Attributes:
      dataset: the dataset's name.
      plan: the configurations to try.
      own: the checkpoint's own values of what is searched, `STEPS` among them.
      settings: all that a score depends on, see `open_study`.

    Raises:
      UserError: bad input, or a search with other settings is in the output folder.
    """

    def __init__(self, job: Job, model: GradientModel):
        tune = job.tune
        network, weights, run, _ = model.checkpoint
        require_one_way("tuning", network.classes)
        manifest = open_dataset(job.data.dataset_dir, job.data.splits)
        names = {
            name for part in tune.tune_split.split(",") for name in manifest.split(part)
        }
        draws = choose_tasks(sorted(names), tune.tasks, tune.seed)
        self.dataset = manifest.name
        space = search_space(tune, run, weights)
        self._gp = tune.sampler == "gp"
        rounds, samples = tune.rounds, tune.samples
        # The Gaussian process knows no rounds.
        sizes = (1, rounds * samples) if self._gp else (rounds, samples)
        self.plan = uho.Plan(space, *sizes, tune.keep, tune.seed)
        self.own = _own_values(space, network, run)
        self.settings = {
            "initialization": fingerprint(weights),
            "dataset": manifest.name,
            "classes": _digest(
                f"{name} {manifest.classes[name].sha256} {draws[name]}"
                for name in sorted(draws)
            ),
            "image_size": network.image_shape[0],
            "task_seed": run.train.seed,
            "shots": job.data.shots,
            "eval_queries": job.queries,
            "batch_norm": job.batch_norm,
            "jit": job.jit,
            "ranges": {name: (r.low, r.high) for name, r in space.items()},
            "final_dropout": run.model.final_dropout,
            **_fields(run.learner, "loss l2 augmentation adapt"),
            **_fields(run.learner, f"{uho.RATE} {uho.STEPS} {uho.BATCH} {uho.AUGMENT}"),
            **_fields(tune, "tune_split tasks sampler samples keep seed patience"),
        }
        folder = Path(job.output)
        self._log_dir = folder / "logs"
        self._study = study.open_study(folder, self.settings, job.storage)
        tasks = load_tasks(
            *(manifest, draws),
            shots=job.data.shots,
            queries=job.queries or None,
            seed=run.train.seed,
            image_size=network.image_shape[:2],
        )
        how = job.batch_norm, job.jit
        self._objective = Objective(network, weights, run, tasks, *how)
        self._patience = tune.patience
        # Several processes would overwrite each other's progress bars.
        self._bars = tune.workers == 1

    def running(self) -> int:
        """How many trials run in other processes, or were killed there."""
        return len(study.trials_of(self._study, TrialState.RUNNING))

    def score_untuned(self) -> uho.Result:
        """Returns the score of the checkpoint's own settings, measured once."""
        score = self._study.user_attrs.get(_UNTUNED)
        if score is None:
            steps = self.own[uho.STEPS]
            bounds = uho.Range(steps, steps, integer=True)
            with _bar("untuned", steps) as show:
                how = {"patience": self._patience, "on_step": show}
                score = self._objective(self.own, bounds, **how).score
            self._study.set_user_attr(_UNTUNED, score)
            tqdm.write(f"untuned: {describe(uho.Result(-1, self.own, score))}")
        return uho.Result(-1, self.own, score)

    def run_trials(self) -> list[uho.Result]:
        """See `study.run_trials`."""
        how = {"gp": self._gp, "on_result": self._note}
        return study.run_trials(self._study, self.plan, self._evaluate, **how)

    def _evaluate(
        self, slot: int, values: dict[str, float], steps: uho.Range, report
    ) -> tuple[int, float]:
        with _bar(self._label(slot), int(steps.high), self._bars) as show:

            def on_step(step: int, score: float) -> None:
                show(step, score)
                report(step, score)

            how = {"patience": self._patience, "on_step": on_step}
            stop = self._objective(values, steps, **how)
        return stop.steps, stop.score

    def _note(self, result: uho.Result) -> None:
        log_trial(self._log_dir, result)
        best = uho.ranking(study.results_of(self._study, self.plan))[0]
        tqdm.write(
            f"{self._label(result.slot)}: {describe(result)}; best so far "
            f"{best.score:.4f}, trial {best.slot + 1}"
        )

    def _label(self, slot: int) -> str:
        number = "" if self._gp else f" (round {slot // self.plan.samples + 1})"
        return f"trial {slot + 1}/{self.plan.trials}{number}"


def describe(result: uho.Result) -> str:
    """One line about a configuration."""
    values = dict(result.values)
    steps = values.pop(uho.STEPS)
    text = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
    plural = "" if steps == 1 else "s"
    return f"{text}: IoU {result.score:.4f} after {steps} step{plural}"


def search_space(tune: TuneConfig, run: RunConfig, weights: Weights) -> uho.Space:
    """Returns the ranges of a search: those that are given, or around the run's own.

    With learned rates in `weights` a factor on them is searched in place of the rate.
    """
    text = tune.learning_rate_range
    if text:
        rates = uho.parse_range("learning_rate_range", text, least=0, log=True)
    else:
        middle = 1.0 if weights.rates else run.learner.inner_learning_rate
        rates = uho.Range(middle / 10, middle * 10, log=True)
    space = {uho.FACTOR if weights.rates else uho.RATE: rates}
    for key, name, limits in (
        (uho.BATCH, "inner_batch_range", {"least": 1, "log": True, "integer": True}),
        (uho.AUGMENT, "augment_range", {"least": 0, "most": 1}),
        (uho.DROPOUT, "dropout_range", {"least": 0, "most": 0.99}),
    ):
        if text := getattr(tune, name):
            space[key] = uho.parse_range(name, text, **limits)
    space[uho.STEPS] = uho.Range(tune.min_steps, tune.max_steps, integer=True)
    return space


def _own_values(space: uho.Space, network: Network, run: RunConfig) -> dict[str, float]:
    values = {**dataclasses.asdict(run.learner), uho.FACTOR: 1.0}
    if uho.DROPOUT in space:
        values[uho.DROPOUT] = final_dropout(network).rate
    return {name: values[name] for name in space}


def _digest(lines) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _fields(config, names: str) -> dict:
    return {name: getattr(config, name) for name in names.split()}


@contextlib.contextmanager
def _bar(
    label: str, steps: int, shown: bool = True
) -> Iterator[Callable[[int, float], None]]:
    look = {"leave": False, "disable": None if shown else True, "dynamic_ncols": True}
    with tqdm(total=steps, unit="step", desc=label, **look) as bar:

        def show(step: int, score: float) -> None:
            bar.set_postfix(IoU=f"{score:.4f}", refresh=False)
            bar.update(min(step, 1))

        yield show


def share_device(workers: int) -> None:
    """Leaves room for the other worker processes; before TensorFlow's first use."""
    if workers == 1:
        return
    threads = max(1, cores() // workers)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)


def start_workers(job: Job) -> list:
    """Starts the worker processes of this machine but for the one that this is."""
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_work_in_process, args=(job,), daemon=True)
        for _ in range(job.tune.workers - 1)
    ]
    for worker in workers:
        worker.start()
    return workers


def _work_in_process(job: Job) -> None:
    # A parent that was killed cannot end its workers.
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
    sys.stdout.reconfigure(line_buffering=True)
    share_device(job.tune.workers)

    def main() -> None:
        Search(job, load_tunable(job.model)).run_trials()

    run_command(main)
