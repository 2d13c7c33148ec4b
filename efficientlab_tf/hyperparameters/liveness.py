"""Which worker processes are still alive, here and on other machines.

A killed worker leaves its trial behind as running. On its own machine it is known to
be gone as soon as its process is; on another one, when the file that it touched every
few seconds has not changed for `PATIENCE` seconds of the watcher's own clock, so that
the machines' clocks need not agree.
"""

import os
import platform
import threading
import time
from pathlib import Path

import psutil

INTERVAL = 10.0
"""Seconds between two signs of life."""
PATIENCE = 300.0
"""Seconds without one after which a worker on another machine is given up."""


def this_process() -> str:
    """Returns a name that no other process has: machine, process id, start."""
    process = psutil.Process()
    return f"{platform.node()}:{process.pid}:{process.create_time():.2f}"


class Liveness:
    """Signs of life in a folder that all workers share.

    Args:
      folder: made if it is not there.
      owner: the name that this process is known under, see `this_process`.
    """

    def __init__(self, folder: Path, owner: str):
        self._folder = folder
        self._owner = owner
        self._seen: dict[str, tuple[float | None, float]] = {}
        self._stop = threading.Event()
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> "Liveness":
        self._file(self._owner).touch()
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *exception) -> None:
        self._stop.set()
        self.forget(self._owner)

    def _beat(self) -> None:
        while not self._stop.wait(INTERVAL):
            try:
                os.utime(self._file(self._owner))
            except OSError:
                # The folder is away for a moment, or for good: others will tell.
                continue

    def _file(self, owner: str) -> Path:
        return self._folder / owner.replace(":", "_")

    def forget(self, owner: str) -> None:
        """Removes the signs of life of a worker that is gone."""
        self._file(owner).unlink(missing_ok=True)

    def gone(self, owner: str) -> bool:
        """Whether a worker has ended; may take `PATIENCE` seconds of asking to say so.

        Args:
          owner: its `this_process`.
        """
        machine, pid, started = owner.rsplit(":", 2)
        if machine == platform.node():
            try:
                # Computed from the time of the boot, which clock corrections move.
                other = psutil.Process(int(pid)).create_time()
                return abs(other - float(started)) > 5
            except psutil.NoSuchProcess:
                return True
        try:
            sign = self._file(owner).stat().st_mtime
        except OSError:
            sign = None
        now = time.monotonic()
        last, since = self._seen.setdefault(owner, (sign, now))
        if sign != last:
            self._seen[owner] = sign, now
            return False
        return now - since > PATIENCE
