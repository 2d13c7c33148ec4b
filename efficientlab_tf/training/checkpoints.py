"""Checkpoints of a meta-state.

A checkpoint is written whole before it is pointed to, so a job that is killed
while saving resumes from the one before.
"""

import secrets
from pathlib import Path

import tensorflow as tf

from efficientlab_tf.checkpoint.series import (
    UNREADABLE,
    Saved,
    best_series,
    first_readable,
    newest_series,
    not_used,
    resumable,
    same_run,
)
from efficientlab_tf.errors import UserError
from efficientlab_tf.learners import MetaState
from efficientlab_tf.untrusted import reason_of


class Checkpoints:
    """The checkpoints of one run; no other process may write to its folder.

    What a killed process left half written is removed.

    Args:
      run_dir: the run's folder.
      state: a state of the run's learner; only shapes and dtypes matter.
      keep: how many of the newest to keep, beside the best.
    """

    def __init__(self, run_dir: Path, state: MetaState, keep: int = 3):
        self._variables = tf.nest.map_structure(
            lambda t: tf.Variable(t, trainable=False), state
        )
        self._step = tf.Variable(0, dtype=tf.int64)
        self._score = tf.Variable(-1.0, dtype=tf.float64)
        self._waited = tf.Variable(0, dtype=tf.int64)
        self._identity = tf.Variable(secrets.randbits(62), dtype=tf.int64)
        content = {
            "theta": list(self._variables.theta),
            "statistics": list(self._variables.statistics),
            "optimizer": list(self._variables.optimizer),
            "rates": list(self._variables.rates),
            "rate_scale": self._variables.rate_scale,
            "step": self._step,
            "best_score": self._score,
            "waited": self._waited,
        }
        self._anonymous = tf.train.Checkpoint(**content)
        self._checkpoint = tf.train.Checkpoint(**content, identity=self._identity)
        # Read, so made: all checkpoints have had it since the first version.
        _ = self._anonymous.save_counter, self._checkpoint.save_counter
        self._run_dir = run_dir
        self._newest = newest_series(run_dir, keep)
        self._best = best_series(run_dir)
        self._saved: int | None = None
        for series in (self._newest, self._best):
            series.clean()

    @property
    def best_score(self) -> float:
        """The best validation score so far; -1 before the first validation."""
        return float(self._score)

    @property
    def last_step(self) -> int | None:
        """The step of the newest checkpoint, or None if nothing was saved."""
        return next((saved.step for saved in resumable(self._run_dir)), None)

    def save(self, state: MetaState, step: int) -> None:
        """Saves the state before meta-step `step`, if it is not saved yet.

        Raises:
          UserError: it cannot be written.
        """
        if step == self._saved:
            return
        self._assign(state, step)
        self._newest.write(self._checkpoint, step)
        self._saved = step

    def save_if_best(self, state: MetaState, step: int, score: float) -> bool:
        """Saves the state as the best one if its score is; returns whether.

        What comes after is told by `plateau`.

        Raises:
          UserError: it cannot be written.
        """
        if score <= self.best_score:
            self._waited.assign_add(1)
            return False
        self._score.assign(score)
        self._waited.assign(0)
        self._assign(state, step)
        self._best.write(self._checkpoint, step)
        return True

    def plateau(self, patience: int) -> bool:
        """Whether more than `patience` scores in a row were no better than the best.

        If so, the count starts again from 0.
        """
        if self._waited <= patience:
            return False
        self._waited.assign(0)
        return True

    def restore(self) -> tuple[MetaState, int] | None:
        """Returns the newest state and its step, or None if nothing was saved.

        Of a run that was stopped before its first checkpoint this is the best state. A
        damaged checkpoint is named on stderr, and the one before it taken.

        Raises:
          UserError: the checkpoint is of another architecture, or none is readable.
        """
        candidates = resumable(self._run_dir)
        if not candidates:
            return None
        state, step = first_readable(candidates, self._read)
        if candidates == self._newest.newest_first():
            self._saved = step
        if not self._own_best():
            # There is no state any more that this was the score of.
            self._score.assign(-1.0)
        return state, step

    def restore_best(self) -> tuple[MetaState, int] | None:
        """Returns the best state and its step; without validation the newest.

        Raises:
          UserError: as `restore`.
        """
        best = self._own_best()
        return self._read(best) if best else self.restore()

    def _own_best(self) -> Saved | None:
        """The best checkpoint, unless it is damaged or another run's."""
        for best in self._best.newest_first():
            try:
                if same_run(best.identity(), int(self._identity)):
                    best.check()
                    return best
                not_used(best, "is of another run")
            except UNREADABLE as error:
                not_used(best, f"cannot be read ({reason_of(error)})")
        return None

    def _assign(self, state: MetaState, step: int) -> None:
        tf.nest.map_structure(lambda v, t: v.assign(t), self._variables, state)
        self._step.assign(step)

    def _read(self, saved: Saved) -> tuple[MetaState, int]:
        try:
            saved.check()
            named = saved.identity() is not None
            checkpoint = self._checkpoint if named else self._anonymous
            status = checkpoint.restore(saved.prefix).expect_partial()
            status.assert_existing_objects_matched()
            status.assert_consumed()
        except UNREADABLE:
            raise
        except (ValueError, AssertionError) as error:
            raise UserError(
                f"checkpoint {saved} is of another architecture or meta-optimizer than "
                "this run's flags describe; use the flags that it was trained with "
                "(run.flags beside it)"
            ) from error
        state = tf.nest.map_structure(lambda v: v.read_value(), self._variables)
        return state, int(self._step)
