"""A search on one machine: what is searched, and the worker that runs trials.

journal = a file in the output folder, which workers on any machine may share
worker:   until all are tried:  claim -> objective -> finish
"""

import dataclasses
import hashlib
import multiprocessing
import os
import sys
import threading
import time
from pathlib import Path

import tensorflow as tf
from tqdm import tqdm

from efficientlab_tf.checkpoint.files import load_model
from efficientlab_tf.checkpoint.run import RunConfig
from efficientlab_tf.checkpoint.tuned import final_dropout, fingerprint
from efficientlab_tf.config import DataConfig, EvalConfig, TuneConfig
from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.errors import UserError, run_command
from efficientlab_tf.hyperparameters import uho
from efficientlab_tf.hyperparameters.journal import (
    Claim,
    Journal,
    Plan,
    Superseded,
    quiet_optuna,
)
from efficientlab_tf.hyperparameters.liveness import Liveness, this_process
from efficientlab_tf.hyperparameters.objective import (
    Objective,
    choose_tasks,
    load_tasks,
)
from efficientlab_tf.hyperparameters.report import log_trial
from efficientlab_tf.segmenters.network import Network, Weights

JOURNAL_FILE = "journal.log"
ALIVE_DIR = "alive"
_POLL = 1.0


@dataclasses.dataclass(frozen=True)
class Job:
    """What a worker process is told: plain values, the same for all of them."""

    model_path: str
    output_dir: str
    data: DataConfig
    evaluation: EvalConfig
    tune: TuneConfig


class Search:
    """A search that is ready to run.

    Args:
      job: what to search, and on what.
      network: the network, as `load_model(..., tuned=False)` returns it.
      weights: the initialization.
      run: its configuration.

    Attributes:
      dataset: the dataset's name.
      plan: the configurations to try.
      own: the checkpoint's own values of what is searched, the number of steps among
        them.
      settings: all that a score depends on, see `Journal`.
      objective: the score.

    Raises:
      UserError: bad input.
    """

    def __init__(self, job: Job, network: Network, weights: Weights, run: RunConfig):
        tune = job.tune
        if not job.data.dataset_dir:
            raise UserError(
                "--dataset_dir is needed: a converted dataset, or sample:icons"
            )
        if network.classes > 1:
            raise UserError(
                f"tuning is one-way, but the network tells {network.classes} classes "
                "apart; give a model with --num_classes=1"
            )
        manifest = Manifest.load(job.data.dataset_dir)
        if job.data.splits:
            manifest = manifest.with_splits(job.data.splits)
        names = {
            name for part in tune.tune_split.split(",") for name in manifest.split(part)
        }
        draws = choose_tasks(sorted(names), tune.tasks, tune.tune_seed)
        self.dataset = manifest.name
        self.plan = Plan(
            search_space(tune, run, weights),
            tune.rounds,
            tune.samples,
            tune.keep,
            tune.sampler,
            tune.tune_seed,
        )
        self.own = _own_values(self.plan.space, network, run)
        self.settings = {
            "initialization": fingerprint(weights),
            "dataset": manifest.name,
            "classes": _digest(
                f"{name} {manifest.classes[name].sha256} {draws[name]}"
                for name in sorted(draws)
            ),
            "image_size": network.image_shape[0],
            "seed": run.train.seed,
            "shots": job.data.shots,
            "eval_queries": job.evaluation.eval_queries,
            "batch_norm": job.evaluation.batch_norm,
            "ranges": {
                name: (bounds.low, bounds.high)
                for name, bounds in self.plan.space.items()
            },
            **{
                name: getattr(run.learner, name)
                for name in ("loss", "l2", "augmentation", "adapt")
            },
            **{
                name: getattr(run.learner, name)
                for name in (uho.RATE, uho.STEPS, uho.BATCH, uho.AUGMENT)
            },
            "final_dropout": run.model.final_dropout,
            **{
                name: getattr(tune, name)
                for name in ("tune_split", "tasks", "sampler", "samples", "keep")
            },
            **{name: getattr(tune, name) for name in ("tune_seed", "patience")},
        }
        self.objective = Objective(
            network,
            weights,
            run,
            load_tasks(
                manifest,
                draws,
                shots=job.data.shots,
                queries=job.evaluation.eval_queries or None,
                seed=run.train.seed,
                image_size=network.image_shape[:2],
            ),
            job.evaluation.batch_norm,
        )
        self._patience = tune.patience
        self._total = self.plan.trials

    def score_untuned(self, journal: Journal) -> None:
        """Notes the score of the checkpoint's own settings, at its own steps."""
        if journal.untuned_score is not None:
            return
        steps = self.own[uho.STEPS]
        with _bar("untuned", steps) as bar:
            stop = self.objective(
                self.own,
                uho.Range(steps, steps, integer=True),
                patience=self._patience,
                on_step=_on_step(bar),
            )
        journal.untuned_score = stop.score
        own = uho.Result(-1, self.own, stop.score)
        tqdm.write(f"untuned: {describe(own)}")

    def run_trials(self, journal: Journal, log_dir: Path, *, quiet: bool) -> None:
        """Runs trials until all are finished, by this worker or by others.

        Args:
          journal: the search's.
          log_dir: the folder of TensorBoard's runs.
          quiet: no progress bars, as several would overwrite each other; the line
            after each trial remains.
        """
        while not journal.finished():
            claim = journal.claim()
            if claim is None:
                time.sleep(_POLL)
                continue
            try:
                self._run_trial(journal, claim, quiet)
            except Superseded:
                continue
            except BaseException:
                journal.give_up(claim)
                raise
            results = journal.results()
            mine = next(r for r in results if r.slot == claim.slot)
            log_trial(log_dir, mine)
            best = uho.ranking(results)[0]
            tqdm.write(
                f"{self._label(claim.slot)}: {describe(mine)}; best so far "
                f"{best.score:.4f}, trial {best.slot + 1}"
            )

    def _run_trial(self, journal: Journal, claim: Claim, quiet: bool) -> None:
        with _bar(self._label(claim.slot), int(claim.steps.high), quiet) as bar:
            show = _on_step(bar)

            def on_step(steps: int, score: float) -> None:
                show(steps, score)
                journal.report(claim, steps, score)

            stop = self.objective(
                claim.values, claim.steps, patience=self._patience, on_step=on_step
            )
        journal.finish(claim, stop.steps, stop.score)

    def _label(self, slot: int) -> str:
        label = f"trial {slot + 1}/{self._total}"
        if self.plan.sampler == "random":
            label += f" (round {slot // self.plan.samples + 1})"
        return label


def describe(result: uho.Result) -> str:
    """One line about a configuration."""
    values = ", ".join(
        f"{name} {value:.4g}"
        for name, value in result.values.items()
        if name != uho.STEPS
    )
    steps = result.values[uho.STEPS]
    plural = "" if steps == 1 else "s"
    return f"{values}: IoU {result.score:.4f} after {steps} step{plural}"


def search_space(tune: TuneConfig, run: RunConfig, weights: Weights) -> uho.Space:
    """Returns the ranges of a search.

    Args:
      tune: the ranges that are given.
      run: the checkpoint's configuration.
      weights: the initialization; where it has learned rates a factor on them is
        searched in the place of the one learning rate, which there is not.

    Raises:
      UserError: a range that is none.
    """
    text = tune.learning_rate_range
    if text:
        rates = uho.parse_range("learning_rate_range", text, least=0, log=True)
    else:
        middle = 1.0 if weights.rates else run.learner.inner_learning_rate
        rates = uho.Range(middle / 10, middle * 10, log=True)
    space = {uho.FACTOR if weights.rates else uho.RATE: rates}
    if tune.inner_batch_range:
        space[uho.BATCH] = uho.parse_range(
            "inner_batch_range",
            tune.inner_batch_range,
            least=1,
            log=True,
            integer=True,
        )
    if tune.augment_range:
        space[uho.AUGMENT] = uho.parse_range(
            "augment_range", tune.augment_range, least=0, most=1
        )
    if tune.dropout_range:
        space[uho.DROPOUT] = uho.parse_range(
            "dropout_range", tune.dropout_range, least=0, most=0.99
        )
    space[uho.STEPS] = uho.Range(tune.min_steps, tune.max_steps, integer=True)
    return space


def _own_values(space: uho.Space, network: Network, run: RunConfig) -> dict[str, float]:
    values = {**dataclasses.asdict(run.learner), uho.FACTOR: 1.0}
    if uho.DROPOUT in space:
        values[uho.DROPOUT] = final_dropout(network).rate
    return {name: values[name] for name in space}


def _digest(lines) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _bar(label: str, steps: int, quiet: bool = False) -> tqdm:
    return tqdm(
        total=steps,
        unit="step",
        desc=label,
        leave=False,
        disable=quiet or None,
        dynamic_ncols=True,
    )


def _on_step(bar: tqdm):
    def show(steps: int, score: float) -> None:
        bar.set_postfix(IoU=f"{score:.4f}", refresh=False)
        bar.update(min(steps, 1))

    return show


def work(job: Job, search: Search, *, untuned: bool) -> Journal:
    """Runs trials of a job in this process until the search is finished.

    Args:
      job: what to search.
      search: the job, loaded.
      untuned: first score the checkpoint's own settings, if nobody has.

    Returns:
      The journal, with all results.

    Raises:
      UserError: bad input, or a journal of another search.
    """
    quiet_optuna()
    folder, owner = Path(job.output_dir), this_process()
    try:
        liveness = Liveness(folder / ALIVE_DIR, owner)
        with liveness:
            journal = Journal(
                folder / JOURNAL_FILE, search.settings, search.plan, liveness, owner
            )
            if untuned:
                search.score_untuned(journal)
            search.run_trials(journal, folder / "logs", quiet=job.tune.workers > 1)
    except OSError as error:
        raise UserError(
            f"cannot write to --output_dir {folder}: {error.strerror}; choose a folder "
            "that you may write to"
        ) from error
    return journal


def share_device(workers: int) -> None:
    """Leaves room for the other worker processes; before TensorFlow's first use."""
    if workers == 1:
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    threads = max(1, (cores or os.cpu_count() or 1) // workers)
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
        search = Search(job, *load_model(job.model_path, tuned=False))
        work(job, search, untuned=False)

    run_command(main)
