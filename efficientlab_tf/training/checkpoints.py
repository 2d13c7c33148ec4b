"""Checkpoints of a meta-state, and loading whatever a user calls a model.

A checkpoint is written whole before it is pointed to, so a job that is killed
while saving resumes from the one before.
"""

from pathlib import Path

import tensorflow as tf

from efficientlab_tf.errors import UserError
from efficientlab_tf.learners import MetaState

_METADATA = "efficientlab_tf.json"
_RATES = "efficientlab_tf_rates.npz"
# TensorFlow's checkpoint reader reports a file that ends too early as IndexError.
UNREADABLE = (tf.errors.OpError, IndexError)


class Checkpoints:
    """The checkpoints of one run.

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
        checkpoint = tf.train.Checkpoint(
            theta=list(self._variables.theta),
            statistics=list(self._variables.statistics),
            optimizer=list(self._variables.optimizer),
            rates=list(self._variables.rates),
            rate_scale=self._variables.rate_scale,
            step=self._step,
            best_score=self._score,
            waited=self._waited,
        )
        self._checkpoint = checkpoint
        self._newest = tf.train.CheckpointManager(
            checkpoint, str(run_dir / "checkpoints"), keep, checkpoint_name="ckpt"
        )
        self._best = tf.train.CheckpointManager(
            checkpoint, str(run_dir / "best"), 1, checkpoint_name="best"
        )

    @property
    def best_score(self) -> float:
        """The best validation score so far; -1 before the first validation."""
        return float(self._score)

    def save(self, state: MetaState, step: int) -> None:
        """Saves the state before meta-step `step`."""
        self._assign(state, step)
        self._write(self._newest, step)

    def save_if_best(self, state: MetaState, step: int, score: float) -> bool:
        """Saves the state as the best one if its score is; returns whether.

        What comes after is told by `plateau`.
        """
        if score <= self.best_score:
            self._waited.assign_add(1)
            return False
        self._score.assign(score)
        self._waited.assign(0)
        self._assign(state, step)
        self._write(self._best, step)
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

        Raises:
          UserError: the checkpoint is of another architecture, or unreadable.
        """
        return self._restore(self._newest.latest_checkpoint)

    def restore_best(self) -> tuple[MetaState, int] | None:
        """Returns the best state and its step; without validation the newest."""
        return self._restore(self._best.latest_checkpoint) or self.restore()

    def _write(self, manager: tf.train.CheckpointManager, step: int) -> None:
        try:
            manager.save(checkpoint_number=step)
        except (OSError, tf.errors.OpError) as error:
            raise UserError(
                f"cannot save a checkpoint to {manager.directory}: {error}; free some "
                "space or make the folder writable, then `resume` from the last one"
            ) from error

    def _assign(self, state: MetaState, step: int) -> None:
        tf.nest.map_structure(lambda v, t: v.assign(t), self._variables, state)
        self._step.assign(step)

    def _restore(self, path: str | None) -> tuple[MetaState, int] | None:
        if path is None:
            return None
        try:
            status = self._checkpoint.restore(path).expect_partial()
            status.assert_existing_objects_matched()
            status.assert_consumed()
        except (ValueError, AssertionError) as error:
            raise UserError(
                f"checkpoint {path} is of another architecture or meta-optimizer than "
                "this run's flags describe; use the flags that it was trained with "
                "(run.flags beside it)"
            ) from error
        except UNREADABLE as error:
            raise UserError(
                f"checkpoint {path} cannot be read: {str(error).splitlines()[0]}; "
                "delete it to fall back to the one before"
            ) from error
        state = tf.nest.map_structure(lambda v: v.read_value(), self._variables)
        return state, int(self._step)
