"""A search that several processes share: an Optuna study in one journal file.

A trial has a slot, its place in the search. With UHO's own sampler the hyperparameters
of slot s are a function of (seed, s, the finished trials of the rounds before), so it
does not matter which worker runs it, and a search that was killed goes on as if it
had not been. A slot is taken by creating its trial and looking whether another one was
there first: the journal is a sequence, and all see the same one.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import optuna
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from efficientlab_tf.errors import UserError
from efficientlab_tf.hyperparameters.liveness import Liveness
from efficientlab_tf.hyperparameters.uho import (
    STEPS,
    Range,
    Result,
    Space,
    sample,
    space_of_round,
)

_SETTINGS, _SLOT, _OWNER, _STEPS, _UNTUNED = (
    *("settings", "slot", "owner", STEPS),
    "untuned_score",
)


class Superseded(Exception):
    """Another worker gave this one up and took over its trial."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """How many configurations are tried, and how they are chosen.

    Attributes:
      space: the ranges at the start.
      rounds: b.
      samples: n, configurations in a round.
      keep: x, the part of all configurations that spans the next round's space.
      sampler: "random" (UHO), or "gp": Optuna's Gaussian process, which takes the
        rounds * samples configurations one after another and refines no space.
      seed: decides the configurations.
    """

    space: Space
    rounds: int
    samples: int
    keep: float
    sampler: str = "random"
    seed: int = 0

    @property
    def trials(self) -> int:
        """The number of configurations in all."""
        return self.rounds * self.samples


@dataclasses.dataclass(frozen=True)
class Claim:
    """A trial that this process has to run.

    Attributes:
      trial_id: Optuna's.
      slot: its place in the search, from 0.
      values: the hyperparameters to try.
      steps: the bounds of early stopping.
    """

    trial_id: int
    slot: int
    values: dict[str, float]
    steps: Range


class Journal:
    """The trials of one search.

    Args:
      path: the journal file, on a file system that all workers share.
      settings: all that a score depends on, as plain values by name; a journal
        holds one search only.
      plan: the search.
      liveness: tells which of the other workers are gone.
      owner: what `liveness` knows this process by.

    Raises:
      UserError: the journal holds a search with other settings, is no journal, or
        cannot be written.
    """

    def __init__(
        self, path: Path, settings: dict, plan: Plan, liveness: Liveness, owner: str
    ):
        self._plan = plan
        self._liveness = liveness
        self._owner = owner
        # Plain values as JSON has them, so that equal settings compare equal.
        settings = json.loads(json.dumps(settings))
        # An absolute path: the lock's age is looked up through it.
        file = str(path.resolve())
        lock = JournalFileOpenLock(file)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _drop_torn_line(file, lock)
            self._storage = optuna.storages.JournalStorage(
                JournalFileBackend(file, lock)
            )
            name = _study_name(settings)
            self._refuse_another(path, name, settings)
            self._study = optuna.create_study(
                storage=self._storage,
                study_name=name,
                direction="maximize",
                load_if_exists=True,
            )
            self._id = self._storage.get_study_id_from_name(name)
            self._storage.set_study_user_attr(self._id, _SETTINGS, settings)
            # Two that started at once have both found an empty journal before.
            self._refuse_another(path, name, settings)
        except OSError as error:
            raise UserError(
                f"cannot write the journal {path}: {error.strerror}; choose an "
                "--output_dir that you may write to"
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(
                f"{path} cannot be read as a journal ({error}); delete it to start the "
                "search over"
            ) from error

    def _refuse_another(self, path: Path, name: str, settings: dict) -> None:
        studies = sorted(self._storage.get_all_studies())
        if not studies or studies[0].study_name == name:
            return
        other = studies[0].user_attrs.get(_SETTINGS, {})
        differing = [
            f"{key} was {other.get(key)!r} and is {settings.get(key)!r}"
            for key in sorted({*settings, *other})
            if other.get(key) != settings.get(key)
        ]
        raise UserError(
            f"{path} is the journal of another search: {'; '.join(differing)}; give "
            "the same flags to go on with it, or another --output_dir"
        )

    def _trials(self) -> list[FrozenTrial]:
        return self._storage.get_all_trials(self._id, deepcopy=False)

    @property
    def untuned_score(self) -> float | None:
        """The score of the checkpoint's own settings, once it is known."""
        return self._storage.get_study_user_attrs(self._id).get(_UNTUNED)

    @untuned_score.setter
    def untuned_score(self, score: float) -> None:
        self._storage.set_study_user_attr(self._id, _UNTUNED, score)

    def results(self) -> list[Result]:
        """Returns the finished trials, ordered by slot."""
        results = {}
        for trial in self._trials():
            if trial.state != TrialState.COMPLETE:
                continue
            slot = trial.user_attrs[_SLOT]
            if slot >= self._plan.trials:
                # Of a longer search; a shorter one was asked for now.
                continue
            curve = trial.intermediate_values
            results.setdefault(
                slot,
                Result(
                    slot,
                    {**trial.params, STEPS: trial.user_attrs[_STEPS]},
                    trial.value,
                    tuple(curve[step] for step in sorted(curve)),
                ),
            )
        return [results[slot] for slot in sorted(results)]

    def finished(self) -> bool:
        """Whether every configuration of the plan has been tried."""
        return len(self.results()) == self._plan.trials

    def claim(self) -> Claim | None:
        """Takes the next configuration.

        Returns:
          None if there is none to take: all are tried, or running and needed before
          the next round. Ask again after a while.
        """
        while True:
            slot = self._free_slot()
            if slot is None:
                return None
            template = self._template(slot)
            trial_id = self._storage.create_new_trial(self._id, template)
            if self._trial_id(self._live()[slot]) != trial_id:
                self._end(trial_id, TrialState.FAIL)
                continue
            values = template.params or self._suggest(trial_id, slot)
            return Claim(trial_id, slot, values, self._space(slot)[STEPS])

    def report(self, claim: Claim, steps: int, score: float) -> None:
        """Notes the score after some steps.

        Raises:
          Superseded: the trial is no longer this worker's.
        """
        try:
            self._storage.set_trial_intermediate_value(claim.trial_id, steps, score)
        except optuna.exceptions.UpdateFinishedTrialError as error:
            raise Superseded from error

    def finish(self, claim: Claim, steps: int, score: float) -> None:
        """Notes the result of a trial.

        Raises:
          Superseded: the trial is no longer this worker's.
        """
        try:
            self._storage.set_trial_user_attr(claim.trial_id, _STEPS, steps)
        except optuna.exceptions.UpdateFinishedTrialError as error:
            raise Superseded from error
        if not self._end(claim.trial_id, TrialState.COMPLETE, score):
            raise Superseded

    def give_up(self, claim: Claim) -> None:
        """Leaves a trial to be run again by whoever comes next."""
        self._end(claim.trial_id, TrialState.FAIL)

    def _end(
        self, trial_id: int, state: TrialState, score: float | None = None
    ) -> bool:
        values = None if score is None else [score]
        try:
            self._storage.set_trial_state_values(trial_id, state, values)
        except optuna.exceptions.UpdateFinishedTrialError:
            return False
        return True

    def _live(self) -> dict[int, FrozenTrial]:
        """The first finished or running trial of each slot; ends what was left."""
        live: dict[int, FrozenTrial] = {}
        for trial in self._trials():
            if trial.state == TrialState.RUNNING:
                owner = trial.user_attrs[_OWNER]
                if owner != self._owner and self._liveness.gone(owner):
                    self._end(self._trial_id(trial), TrialState.FAIL)
                    self._liveness.forget(owner)
                    continue
            elif trial.state != TrialState.COMPLETE:
                continue
            live.setdefault(trial.user_attrs[_SLOT], trial)
        return live

    def _trial_id(self, trial: FrozenTrial) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(
            self._id, trial.number
        )

    def _free_slot(self) -> int | None:
        live = self._live()
        end = self._plan.trials
        if self._plan.sampler == "random":
            # Up to the end of the first round that is not finished.
            done = (s for s in range(end) if not _complete(live.get(s)))
            unfinished = next(done, end)
            samples = self._plan.samples
            end = min(end, (unfinished // samples + 1) * samples)
        return next((slot for slot in range(end) if slot not in live), None)

    def _space(self, slot: int) -> Space:
        plan = self._plan
        if plan.sampler != "random":
            return plan.space
        return space_of_round(
            plan.space, self.results(), slot // plan.samples, plan.samples, plan.keep
        )

    def _template(self, slot: int) -> FrozenTrial:
        values, distributions = {}, {}
        if self._plan.sampler == "random":
            space = self._space(slot)
            values = sample(space, (self._plan.seed, slot))
            distributions = {name: _distribution(space[name]) for name in values}
        return optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=values,
            distributions=distributions,
            user_attrs={_SLOT: slot, _OWNER: self._owner},
        )

    def _suggest(self, trial_id: int, slot: int) -> dict[str, float]:
        # A sampler of its own for each trial: what it draws depends on the slot and
        # on the results so far, not on what this process has drawn before.
        seed = np.random.SeedSequence([self._plan.seed, slot]).generate_state(1)[0]
        self._study.sampler = optuna.samplers.GPSampler(
            seed=int(seed),
            n_startup_trials=min(10, self._plan.samples),
            deterministic_objective=False,
            warn_independent_sampling=False,
        )
        trial = optuna.Trial(self._study, trial_id)
        values = {}
        for name, bounds in self._plan.space.items():
            if name != STEPS:
                suggest = trial.suggest_int if bounds.integer else trial.suggest_float
                values[name] = suggest(name, bounds.low, bounds.high, log=bounds.log)
        return values


def _complete(trial: FrozenTrial | None) -> bool:
    return trial is not None and trial.state == TrialState.COMPLETE


def _distribution(bounds: Range) -> FloatDistribution | IntDistribution:
    kind = IntDistribution if bounds.integer else FloatDistribution
    return kind(bounds.low, bounds.high, log=bounds.log)


def _study_name(settings: dict) -> str:
    text = json.dumps(settings, sort_keys=True)
    return "uho-" + hashlib.sha256(text.encode()).hexdigest()[:16]


def _drop_torn_line(file: str, lock: JournalFileOpenLock) -> None:
    """Removes a last line that was cut off, by a full disk or a crash.

    The next line would be appended to it, and neither could be read.
    """
    if not os.path.exists(file) or not os.path.getsize(file):
        return
    lock.acquire()
    try:
        with open(file, "rb+") as journal:
            content = journal.read()
            end = content.rfind(b"\n") + 1
            if end != len(content) and content[:1] == b"{":
                journal.truncate(end)
    finally:
        lock.release()


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Lets one process at a time in, of all that share a folder.

    One that died inside is waited for, for five minutes.
    """
    lock = JournalFileOpenLock(str(folder / "results"), grace_period=300)
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def check_sampler(sampler: str) -> None:
    """Checks that a sampler's requirements are installed.

    Raises:
      UserError: they are not.
    """
    if sampler != "gp":
        return
    try:
        import scipy  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"--sampler=gp needs {error.name}, which is not installed: "
            "pip install scipy torch, or leave --sampler out for UHO's own"
        ) from error


def quiet_optuna() -> None:
    """Keeps Optuna's remarks on its own doings off the screen."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
