"""A search as an Optuna study: its database and its queue.

A configuration has a slot, its place in the search, from 0, round after round. The
slots of a round wait in the study's queue, and `study.optimize` takes them from there
in any number of processes. Their values are a function of the seed, the slot and the
results of the rounds before: who queues or runs them does not matter, nor whether
somebody was killed over it before. (The Gaussian process draws when a trial starts.)
"""

import json
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import optuna
import sqlalchemy
from optuna.trial import FrozenTrial, TrialState

from efficientlab_tf.errors import UserError
from efficientlab_tf.hyperparameters.uho import (
    STEPS,
    Plan,
    Range,
    Result,
    sample,
    space_of_slot,
)

DATABASE_FILE = "search.db"
INTERVAL = 10
"""Seconds between two signs of life of a running trial."""
PATIENCE = 60
"""Seconds without one after which a trial is given up and run again."""
_POLL = 1.0
_NAME, _SETTINGS, _SLOT = "tune", "settings", "slot"
_UNUSABLE = (OSError, ImportError, RuntimeError)
_UNUSABLE += (optuna.exceptions.OptunaError, sqlalchemy.exc.SQLAlchemyError)
_LIVE = (TrialState.WAITING, TrialState.RUNNING, TrialState.COMPLETE)

Report = Callable[[int, float], None]
Evaluate = Callable[[int, dict[str, float], Range, Report], tuple[int, float]]


def check_sampler(sampler: str) -> None:
    """Checks that a sampler's requirements are installed."""
    if sampler != "gp":
        return
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise UserError(
            "`sampler` gp needs PyTorch, which is not installed: pip install torch, or "
            "choose random, which is UHO's own"
        ) from error


def gp_sampler(plan: Plan, slot: int) -> optuna.samplers.BaseSampler:
    """Returns Optuna's Gaussian process for one trial.

    Made anew for each, as processes with one seed would draw the same values.
    """
    seed = np.random.SeedSequence([plan.seed, slot]).generate_state(1)[0]
    return optuna.samplers.GPSampler(
        seed=int(seed),
        n_startup_trials=min(10, plan.trials // 2),
        deterministic_objective=False,
        warn_independent_sampling=False,
    )


def open_study(folder: Path, settings: dict, url: str = "") -> optuna.Study:
    """Opens a search, or starts it.

    Args:
      folder: where `DATABASE_FILE` is, unless `url` is given. It is made.
      settings: all that a score depends on, as plain values by name.
      url: of another database, as SQLAlchemy has it. It holds this search alone.

    Raises:
      UserError: the database holds a search with other settings, or cannot be used.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # Of heartbeats, by which Optuna knows of trials whose process was killed.
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        study = _connect(url or f"sqlite:///{(folder / DATABASE_FILE).resolve()}")
    except _UNUSABLE as error:
        reason = str(getattr(error, "orig", None) or error).split("\n")[0]
        where = "the database of `storage`" if url else f"{folder / DATABASE_FILE}"
        raise UserError(
            f"cannot keep the search in {where}: {reason}; give another `output` "
            "or `storage`"
        ) from error
    # Plain values as JSON has them, so that equal settings compare equal.
    settings = json.loads(json.dumps(settings))
    before = study.user_attrs.get(_SETTINGS)
    if before is None:
        study.set_user_attr(_SETTINGS, before := settings)
    differing = [
        f"{name} was {before.get(name)!r} and is {settings.get(name)!r}"
        for name in sorted({*settings, *before})
        if before.get(name) != settings.get(name)
    ]
    if differing:
        raise UserError(
            f"{'the database' if url else folder} holds another search: "
            f"{'; '.join(differing)}; give the same settings to go on with it, or "
            "another `output` or `storage`"
        )
    for trial in trials_of(study, TrialState.RUNNING):
        if not trial.params:
            # Killed before its first sign of life, it would never be missed.
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
    return study


def _connect(url: str) -> optuna.Study:
    sqlite = url.startswith("sqlite")
    storage = optuna.storages.RDBStorage(
        url,
        engine_kwargs={"connect_args": {"timeout": 60}} if sqlite else None,
        heartbeat_interval=INTERVAL,
        grace_period=PATIENCE,
    )
    if sqlite:
        # SQLite locks no rows: two processes that first read and then write would
        # take the same trial.
        sqlalchemy.event.listen(
            storage.engine,
            "begin",
            lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"),
        )
    return optuna.create_study(
        storage=storage, study_name=_NAME, direction="maximize", load_if_exists=True
    )


def trials_of(study: optuna.Study, *states: TrialState) -> list[FrozenTrial]:
    """Returns the trials in these states; running are also those that were killed."""
    return study.get_trials(deepcopy=False, states=states)


def results_of(study: optuna.Study, plan: Plan) -> list[Result]:
    """Returns the results of a search so far, ordered by slot."""
    trials = reversed(trials_of(study, TrialState.COMPLETE))
    # Of one slot the first counts, and of a longer search the beginning.
    results = {trial.user_attrs[_SLOT]: _result(trial) for trial in trials}
    return [results[slot] for slot in sorted(results) if slot < plan.trials]


def _result(trial: FrozenTrial) -> Result:
    curve = trial.intermediate_values
    return Result(
        trial.user_attrs[_SLOT],
        {**trial.params, STEPS: trial.user_attrs[STEPS]},
        trial.value,
        tuple(curve[step] for step in sorted(curve)),
    )


def run_trials(
    study: optuna.Study,
    plan: Plan,
    evaluate: Evaluate,
    *,
    gp: bool = False,
    on_result: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Runs trials until the search is finished, by this process or by others.

    Args:
      study: of `open_study`.
      plan: the search; with other rounds than before it gets longer or shorter.
      evaluate: called with the slot, the values, the bounds of early stopping, and a
        function to be told the score after each number of steps; returns the number
        of steps and their score, not NaN.
      gp: sample a plan of one round with Optuna's Gaussian process, not with UHO.
      on_result: called with each result of this process.

    Returns:
      The results, ordered by slot.
    """

    def objective(trial: optuna.Trial) -> float:
        if not _wanted(study, plan, trial):
            raise optuna.TrialPruned
        # Optuna's own first sign of life comes from a thread, at any time from now
        # on; `open_study` counts on one being there once there are values.
        study._storage.record_heartbeat(trial._trial_id)
        slot = trial.user_attrs[_SLOT]
        steps = space_of_slot(plan, results_of(study, plan), slot)[STEPS]
        values = dict(_suggest(trial, plan))
        chosen, score = evaluate(
            slot, values, steps, lambda step, value: trial.report(value, step)
        )
        trial.set_user_attr(STEPS, chosen)
        return score

    def finished(study: optuna.Study, trial: FrozenTrial) -> None:
        if trial.state == TrialState.COMPLETE:
            on_result(_result(trial))

    while len(results := results_of(study, plan)) < plan.trials:
        slot = _fill_queue(study, plan, results, gp)
        if slot is None:
            # What is left of the round runs elsewhere, or was killed there.
            optuna.storages.fail_stale_trials(study)
            time.sleep(_POLL)
            continue
        if gp:
            study.sampler = gp_sampler(plan, slot)
        try:
            study.optimize(objective, n_trials=1, callbacks=[finished])
        except (ValueError, optuna.exceptions.UpdateFinishedTrialError) as error:
            # This process gave no sign of life for too long, as after a sleep of the
            # machine, and its trial was given up: somebody else's result counts.
            if isinstance(error, ValueError) and "Cannot tell a" not in str(error):
                raise
    return results


def _fill_queue(study: optuna.Study, plan: Plan, results: list[Result], gp: bool):
    """Queues all that can be tried and is not; returns the first slot in the queue."""
    done = {result.slot for result in results}
    first = next(slot for slot in range(plan.trials) if slot not in done)
    end = first - first % plan.samples + plan.samples
    space = space_of_slot(plan, results, first)
    live = {trial.user_attrs.get(_SLOT) for trial in trials_of(study, *_LIVE)}
    for slot in range(first, end):
        if slot not in live:
            values = {} if gp else sample(space, (plan.seed, slot))
            study.enqueue_trial(values, {_SLOT: slot})
    waiting = trials_of(study, TrialState.WAITING)
    return waiting[0].user_attrs[_SLOT] if waiting else None


def _wanted(study: optuna.Study, plan: Plan, trial: optuna.Trial) -> bool:
    slot = trial.user_attrs.get(_SLOT)
    # Without a slot: others had emptied the queue when this process came to it.
    if slot is None or slot >= plan.trials:
        return False
    # Two processes may have queued the same slot.
    return not any(
        other.number < trial.number and other.user_attrs.get(_SLOT) == slot
        for other in trials_of(study, *_LIVE)
    )


def _suggest(trial: optuna.Trial, plan: Plan) -> Iterator[tuple[str, float]]:
    for name, bounds in plan.space.items():
        if name != STEPS:
            suggest = trial.suggest_int if bounds.integer else trial.suggest_float
            yield name, suggest(name, bounds.low, bounds.high, log=bounds.log)
