"""One thing to measure, in a process of its own, which steps when it is told to.

A peak of memory belongs to a process, so whatever is compared gets one each. Both
sides of a comparison live at the same time and step in turns, so that their ratio
holds on a noisy machine; whoever waits takes no time.

The measured side calls `serve` with a `Workload`, the measuring side opens a `Probe`
on its module. They speak in lines: the specification as JSON on the command line,
then a line to ask for each step, and a line of JSON as each answer.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from efficientlab_tf.errors import UserError

_ROOT = Path(__file__).parents[1]


class Workload(Protocol):
    """What a measured process does."""

    def trace(self) -> dict:
        """All that comes before the first step; returns what is worth knowing."""

    def step(self) -> None:
        """One step, finished when this returns."""

    def save(self, path: str) -> None:
        """Writes the last step's meta-gradient and the logits to an .npz file."""


class Spent(NamedTuple):
    """Time on the clock, and the processors' time of all threads, in seconds.

    The second hardly depends on who else uses the processors.
    """

    wall: float
    cpu: float


class Started(NamedTuple):
    """What starting took.

    Attributes:
      trace: time that `Workload.trace` took.
      first: time of the first step.
      before: bytes resident before the first step.
      peak: bytes, the most that was resident until after it.
      facts: what `Workload.trace` returned.
    """

    trace: Spent
    first: Spent
    before: int
    peak: int
    facts: dict


class Step(NamedTuple):
    """Time of one step, and the most bytes resident since the process began."""

    spent: Spent
    peak: int


class Probe:
    """The measuring side; a context manager that ends the process.

    Opening it takes until the first step is done. The process sees no GPU: its own
    memory is what is measured.

    Args:
      module: one beside this one, which calls `serve` when it is run.
      specification: JSON values, handed to the module's workload. "save": a file for
        the first step's meta-gradient.
      python: another Python, which runs the module as a script.

    Raises:
      UserError: one from the workload.
      RuntimeError: the process ended early; its trace is on stderr.
    """

    def __init__(self, module: str, specification: dict, python: str | None = None):
        command = [sys.executable, "-m", f"{__package__}.{module}"]
        if python:
            command = [python, str(Path(__file__).with_name(f"{module}.py"))]
        self._process = subprocess.Popen(
            [*command, json.dumps(specification)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
        )
        try:
            answer = self._answer()
            times = {name: Spent(*answer[name]) for name in ("trace", "first")}
            self.started = Started(**{**answer, **times})
        except BaseException:
            self._process.kill()
            self._end()
            raise

    def step(self) -> Step:
        """Takes one more step."""
        try:
            self._process.stdin.write("step\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # It has ended, and the missing answer says so.
        answer = self._answer()
        return Step(Spent(*answer["spent"]), answer["peak"])

    def __enter__(self) -> "Probe":
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is not None:
            self._process.kill()
        self._end()

    def _end(self) -> None:
        # With its questions at an end, the process ends too.
        self._process.communicate()

    def _answer(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            raise RuntimeError(
                f"a measured process ended with status {status}"
                + (" (killed: out of memory?)" if status == -9 else "")
            )
        answer = json.loads(line)
        if "error" in answer:
            raise UserError(answer["error"])
        return answer


def serve(build: type[Workload]) -> None:
    """The measured side: answers until stdin ends.

    Args:
      build: called with the specification.
    """
    # What libraries print goes to stderr, so that only answers are answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**values) -> None:
        print(json.dumps(values), file=answers, flush=True)

    specification = json.loads(sys.argv[1])
    save = specification.pop("save", None)
    try:
        workload = build(**specification)
    except UserError as error:
        answer(error=str(error))
        return
    trace, facts = _timed(workload.trace)
    before = _resident("VmRSS")
    first, _ = _timed(workload.step)
    peak = _resident("VmHWM")
    if save:
        workload.save(save)
    answer(trace=trace, first=first, before=before, peak=peak, facts=facts)
    for _ in sys.stdin:
        spent, _ = _timed(workload.step)
        answer(spent=spent, peak=_resident("VmHWM"))


def _timed(function: Callable[[], Any]) -> tuple[Spent, Any]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = function()
    return Spent(time.perf_counter() - wall, time.process_time() - cpu), result


def _resident(field: str) -> int:
    """Bytes of this process in memory: VmRSS now, VmHWM at the most.

    Not getrusage's ru_maxrss: on Linux a process inherits there the peak of the one
    that started it.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")
