"""The checkpoint files of a run: each whole or not there, and each of one run.

    checkpoints/ckpt-12.data-00000-of-00001, checkpoints/ckpt-12.index

TensorFlow writes them into a folder beside, and the index is moved to its place last: a
checkpoint is there when its index is. `checkpoint`, TensorFlow's own list, is kept for
other programs; nothing here depends on it.
"""

import contextlib
import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import tensorflow as tf

from efficientlab_tf.errors import UserError
from efficientlab_tf.files import remove_partials, write_text
from efficientlab_tf.untrusted import reason_of

IDENTITY = "identity"
"""The variable of a checkpoint that says of which run it is: int64, drawn at the run's
start. Checkpoints of earlier versions have none and belong to whose folder it is."""

# TensorFlow's checkpoint reader reports a file that ends too early as IndexError, and
# a message with bytes of a damaged file in it is not UTF-8.
UNREADABLE = (tf.errors.OpError, IndexError, UnicodeDecodeError)

_KEY = f"{IDENTITY}/.ATTRIBUTES/VARIABLE_VALUE"
_PARTIAL = "_partial"
_Result = TypeVar("_Result")


class Saved(NamedTuple):
    """A checkpoint: the step it was saved before, and its files less their suffix."""

    step: int
    prefix: str

    def __str__(self) -> str:
        return self.prefix

    def identity(self) -> int | None:
        """Returns the identity of its run; None if an earlier version saved it.

        Raises:
          UNREADABLE: it is damaged.
        """
        reader = tf.train.load_checkpoint(self.prefix)
        return int(reader.get_tensor(_KEY)) if reader.has_tensor(_KEY) else None

    def check(self) -> None:
        """Reads all of it.

        Raises:
          UNREADABLE: it is damaged.
        """
        reader = tf.train.load_checkpoint(self.prefix)
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)


class Series:
    """The newest few checkpoints of a run, in one folder.

    Args:
      folder: of the checkpoints; made when the first is written.
      name: what their files' names begin with.
      keep: how many to keep.
    """

    def __init__(self, folder: Path, name: str, keep: int = 1):
        self._folder = folder
        self._name = name
        self._keep = keep
        self._file = re.compile(rf"({re.escape(name)}-(\d{{1,18}}))\.(index|data-.*)")

    def newest_first(self) -> list[Saved]:
        """Returns the checkpoints that are there, damaged ones among them."""
        found = [
            Saved(int(match[2]), str(self._folder / match[1]))
            for match in self._matches()
            if match[3] == "index"
        ]
        return sorted(found, reverse=True)

    def write(self, checkpoint: tf.train.Checkpoint, step: int) -> None:
        """Writes a checkpoint and removes those that are not to be kept any more.

        Raises:
          UserError: it cannot be written; those before are still there.
        """
        saved = Saved(step, str(self._folder / f"{self._name}-{step}"))
        partial = Path(saved.prefix + _PARTIAL)
        try:
            partial.mkdir(parents=True, exist_ok=True)
            checkpoint.write(str(partial / f"{self._name}-{step}"))
            for file in sorted(partial.iterdir(), key=lambda p: p.suffix == ".index"):
                os.replace(file, self._folder / file.name)
            # One of a later step is damaged, or of what a resumed run does again.
            found = self.newest_first()
            kept = [s for s in found if s.step <= step][: self._keep]
            names = [Path(s.prefix).name for s in kept]
            lines = [f'model_checkpoint_path: "{names[0]}"\n'] + [
                f'all_model_checkpoint_paths: "{name}"\n' for name in reversed(names)
            ]
            write_text(self._folder / "checkpoint", "".join(lines))
            for other in found:
                if other not in kept:
                    self._remove(other)
        except (OSError, tf.errors.OpError) as error:
            raise UserError(
                f"cannot save a checkpoint to {self._folder} ({reason_of(error)}); "
                "free some space or make the folder writable, then resume from the "
                "last one"
            ) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def clean(self) -> None:
        """Removes what a killed process left of a checkpoint that it was writing.

        Nobody may be writing one.
        """
        for kind in (_PARTIAL, "_temp"):
            for partial in self._folder.glob(f"{self._name}-*{kind}"):
                shutil.rmtree(partial, ignore_errors=True)
        remove_partials(self._folder / "checkpoint")
        for partial in self._folder.glob("checkpoint.tmp*"):
            partial.unlink(missing_ok=True)
        whole = {saved.prefix for saved in self.newest_first()}
        for match in self._matches():
            if str(self._folder / match[1]) not in whole:
                (self._folder / match[0]).unlink(missing_ok=True)

    def _matches(self) -> list[re.Match]:
        if not self._folder.is_dir():
            return []
        names = map(self._file.fullmatch, sorted(os.listdir(self._folder)))
        return [match for match in names if match]

    def _remove(self, saved: Saved) -> None:
        # The index first: without one, a data file is nothing.
        for kind in ("index", "data-*"):
            for file in self._folder.glob(f"{self._name}-{saved.step}.{kind}"):
                file.unlink(missing_ok=True)


def newest_series(run_dir: Path, keep: int = 1) -> Series:
    """The newest checkpoints of a run."""
    return Series(run_dir / "checkpoints", "ckpt", keep)


def best_series(run_dir: Path) -> Series:
    """The best checkpoint of a run by validation."""
    return Series(run_dir / "best", "best")


def resumable(run_dir: Path) -> list[Saved]:
    """The checkpoints that a run can go on from, the newest first.

    Of one that was stopped before its first, the best is all there is.
    """
    newest = newest_series(run_dir).newest_first()
    return newest or best_series(run_dir).newest_first()


def best_of(run_dir: Path) -> Saved | None:
    """The best checkpoint of a run; None without one, or if it is another run's.

    It may be damaged.
    """
    for best in best_series(run_dir).newest_first():
        for newest in newest_series(run_dir).newest_first():
            with contextlib.suppress(*UNREADABLE):
                if same_run(best.identity(), newest.identity()):
                    return best
                not_used(best, "is of another run")
                return None
        return best
    return None


def not_used(saved: Saved, fault: str) -> None:
    """Says on stderr why a checkpoint is passed over."""
    print(f"note: checkpoint {saved} {fault} and is not used", file=sys.stderr)


def first_readable(
    candidates: Sequence[Saved], read: Callable[[Saved], _Result]
) -> _Result:
    """Returns what `read` makes of the first checkpoint that is not damaged.

    A line on stderr names each that is.

    Args:
      candidates: checkpoints, the newest first; at least one.
      read: raises `UNREADABLE` for a damaged one.

    Raises:
      UserError: all of them are damaged.
    """
    for number, saved in enumerate(candidates, start=1):
        try:
            return read(saved)
        except UNREADABLE as error:
            damage = f"checkpoint {saved} cannot be read ({reason_of(error)})"
            if number == len(candidates):
                raise UserError(
                    f"{damage}, and there is none before it that can; copy the run's "
                    "folder again, or train anew in another `run_dir`"
                ) from error
            print(
                f"note: {damage}; going on with the one before, {candidates[number]}",
                file=sys.stderr,
            )
    raise AssertionError("no candidates")


def same_run(one: int | None, other: int | None) -> bool:
    """Whether two identities may be of one run: those that are not known may."""
    return None in (one, other) or one == other
