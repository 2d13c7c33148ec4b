"""One process at a time works in a folder."""

import contextlib
import errno
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, SoftFileLock, Timeout

from efficientlab_tf.errors import UserError
from efficientlab_tf.untrusted import reason_of

LOCK_FILE = "run.lock"
# Shared folders that have no locks say so in one of these ways.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextlib.contextmanager
def locked(
    run_dir: Path, file: str = LOCK_FILE, name: str = "run_dir"
) -> Iterator[None]:
    """Holds the lock of a run's folder, which is made if it is not there.

    The system drops the lock when its process ends, however it does, also on a shared
    folder that has locks. On one without, a file stands for the lock: one that a
    killed process left is recognised on the same machine, and named on others.

    Args:
      run_dir: the folder.
      file: of the lock, in it.
      name: of the argument that the folder was given as.

    Raises:
      UserError: another process holds it, or the folder cannot be written.
    """
    path = run_dir / file
    soft_path = path.with_suffix(".soft.lock")
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        try:
            lock = FileLock(path, blocking=False, fallback_to_soft=False)
            lock.acquire()
            path.write_text(f"{os.getpid()}\n{platform.node()}\n")
        except OSError as error:
            if isinstance(error, Timeout) or error.errno not in _NO_LOCKS:
                raise
            path = soft_path
            lock = SoftFileLock(path, blocking=False)
            lock.acquire()
    except Timeout:
        advice = ""
        if path == soft_path:
            advice = f"; if it is not running any more, delete {path}"
        raise UserError(
            f"folder {run_dir} is in use by {_holder(path)}: wait until it ends, or "
            f"choose another `{name}`{advice}"
        ) from None
    except OSError as error:
        raise UserError(
            f"cannot write to `{name}` {run_dir}: {reason_of(error)}; choose a folder "
            "that you may write to"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _holder(path: Path) -> str:
    try:
        pid, machine = path.read_text(errors="replace").splitlines()[:2]
    except (OSError, ValueError):
        return "another process"
    return f"process {pid} on {machine}"
