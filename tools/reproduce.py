"""Runs a paper's experiments, from the published data to its tables.

    python tools/reproduce.py hendryx|meta_drn|oslsm|guided --data DIR
    python tools/reproduce.py hendryx_small|meta_drn_small|guided_small --data datasets

Finds the paper's data in DIR or up to three folders below it: FSS-1000 unpacked (class
folders with 1.jpg), VOC2012, SBD (benchmark_RELEASE/dataset), DAVIS 2017 and COCO 2017.
The small ones take datasets that were converted, and need no GPU. Converts, trains,
measures and writes PAPER.md into --output: the paper's numbers beside measured ones,
again after every stage. Before it starts it times three meta-steps of each training on
noise and says how many hours all of them take on this machine.

The same command goes on where it was stopped: what is finished is not done again, and a
training resumes from its checkpoint. A stage that fails does not stop those that do not
need it. docs/papers.md says what each experiment is.
"""

import argparse
import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from efficientlab_tf.errors import UserError, run_command
from efficientlab_tf.evaluation import tables
from efficientlab_tf.files import make_writable, write_text
from tools.papers import PAPERS
from tools.plan import INPUTS, Plan, Row, Stage, find_inputs

TOOLS = Path(__file__).parent
TIMINGS, MARKERS = "timings.json", "done"
HEADS = ["where", "what", "paper, %", "measured, %"]
_ELSEWHERE = (
    *("--dataset_dir=", "--run_dir=", "--splits=", "--train_split=", "--val_split="),
    "--seed=",
)
"""Flags of a training that do not change how long a meta-step takes."""
_TIMED = re.compile(r"median of \d+: ([\d.]+) s\n.*\n +all (\d+) meta-steps", re.S)


class Timing(NamedTuple):
    """How long a training takes."""

    steps: int
    seconds: float

    @property
    def hours(self) -> float:
        """Of all meta-steps."""
        return self.steps * self.seconds / 3600


def main(argv: Sequence[str] | None = None) -> int:
    """Reproduces the paper that the arguments name; returns the exit status.

    Raises:
      UserError: bad input.
    """
    parser = argparse.ArgumentParser(
        prog="reproduce",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("paper", choices=PAPERS)
    add("--data", type=Path, required=True, metavar="DIR", help="the published data")
    where = "for datasets, runs, results and the table (%(default)s)"
    add("--output", type=Path, default=Path("reproduced"), metavar="DIR", help=where)
    only = "only stages with these in their names and what they need: fomaml,uho"
    add("--only", default="", metavar="NAMES", help=only)
    extra = (
        "options for all stages of a command, such as "
        '"train --image_size=96 --meta_steps=500"; may be given several times'
    )
    add("--extra", action="append", default=[], metavar="OPTIONS", help=extra)
    add("--dry_run", action="store_true", help="print the stages and do nothing")
    args = parser.parse_args(argv)
    if not args.data.is_dir():
        raise UserError(f"--data must be a folder, received {args.data}")
    plan = Plan(find_inputs(args.data), args.output)
    PAPERS[args.paper](plan)
    reproduction = Reproduction(plan, args.paper, changes_of(args.extra))
    chosen = reproduction.chosen(args.only)
    reproduction.print_plan(chosen)
    if args.dry_run:
        return 0
    make_writable(args.output / MARKERS)
    # A stage is told, and ends, before this process does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return reproduction.run(chosen)


def changes_of(extra: Iterable[str]) -> dict[str, list[str]]:
    """Reads --extra: command to options.

    Raises:
      UserError: not a command and options.
    """
    changes: dict[str, list[str]] = {}
    for text in extra:
        command, *options = shlex.split(text) or [""]
        if command.startswith("-") or not options:
            raise UserError(
                '--extra must be a command and options, such as "train '
                f'--meta_steps=500", received {text!r}'
            )
        changes.setdefault(command, []).extend(options)
    return changes


class Reproduction:
    """A plan, and what of it is done.

    Args:
      plan: the paper's.
      paper: its name.
      changes: command to options that all its stages get.
    """

    def __init__(self, plan: Plan, paper: str, changes: dict[str, list[str]]):
        self.output, self.rows = plan.output, plan.rows
        self._found, self._paper, self._changes = plan.inputs, paper, changes
        self.stages = {
            name: stage._replace(
                command=(*stage.command, *changes.get(stage.command[0], ()))
            )
            for name, stage in plan.stages.items()
        }
        self._timings: dict[str, Timing] = {}
        if (self.output / TIMINGS).is_file():
            known = json.loads((self.output / TIMINGS).read_text())
            self._timings = {key: Timing(*values) for key, values in known.items()}

    def chosen(self, only: str) -> list[Stage]:
        """The stages with a part of `only` in their names, and what they need.

        Raises:
          UserError: there is none, or what it would take is not in the data.
        """
        names: set[str] = set()
        for name in reversed(self.stages):
            if name in names or any(part in name for part in only.split(",")):
                names |= {name, *self.stages[name].needs}
        chosen = [stage for name, stage in self.stages.items() if name in names]
        if not chosen:
            raise UserError(
                f"--only must be parts of names of stages, received {only!r}; there "
                f"are {', '.join(self.stages)}"
            )
        if all(self.missing(stage.name) for stage in chosen):
            needed = sorted(set().union(*(self.missing(s.name) for s in chosen)))
            words = "; ".join(f"{name}: {INPUTS[name][2]}" for name in needed)
            raise UserError(
                f"--data has nothing that this needs, which is {words}; unpack what "
                "was downloaded there"
            )
        return chosen

    def missing(self, name: str) -> set[str]:
        """The inputs that a stage, or one that it needs, lacks."""
        if name in INPUTS:
            return set() if self._found[name].exists() else {name}
        if self.done(self.stages[name]):
            return set()
        return set().union(*map(self.missing, self.stages[name].needs))

    def done(self, stage: Stage) -> bool:
        """Whether a stage's result is there.

        Raises:
          UserError: it is, but of another command line.
        """
        marker, line = self._marker(stage), shlex.join(stage.command)
        if not (marker.is_file() and stage.output.exists()):
            return False
        # What was converted may be deleted.
        given = all(self._found[n].exists() for n in stage.needs if n in INPUTS)
        if given and (before := marker.read_text()) != line:
            raise UserError(
                f"{stage.output} was made by another command; give another --output, "
                f"or delete it and {marker}. It was: {before}; now it is: {line}"
            )
        return True

    def print_plan(self, chosen: Sequence[Stage]) -> None:
        """Prints the stages and their command lines."""
        for stage in chosen:
            missing = ", ".join(sorted(self.missing(stage.name)))
            state = "done" if self.done(stage) else f"needs {missing}" * bool(missing)
            print(f"{stage.name}: {state}\n  {shlex.join(self._line(stage))}")

    def run(self, chosen: Sequence[Stage]) -> int:
        """Runs what is not done; returns the exit status."""
        todo = [
            stage
            for stage in chosen
            if not self.done(stage) and not self.missing(stage.name)
        ]
        self._estimate([stage for stage in todo if stage.command[0] == "train"])
        failed: list[str] = []
        for stage in todo:
            if not any(name in failed for name in stage.needs):
                print(f"\n{stage.name}\n{shlex.join(self._line(stage))}")
                if self._run(stage):
                    self.write_report()
                    continue
            failed.append(stage.name)
        path = self.write_report()
        print(f"\n{path.read_text()}\nwritten: {path}")
        if failed:
            print(
                f"error: {', '.join(failed)} failed, or needs what failed; the errors "
                "are above, and the same command tries again",
                file=sys.stderr,
            )
        return 2 if failed else 0

    def _run(self, stage: Stage) -> bool:
        line = self._line(stage)
        if stage.command[0] == "train" and list(stage.output.parent.glob("*/*.index")):
            line.append("--resume")
        stage.output.parent.mkdir(parents=True, exist_ok=True)
        status = start(line)
        # A conversion ends with 1 if it left classes out, and says which.
        good = status == 0 or status == 1 and stage.command[0] == "convert"
        if not good or not stage.output.exists():
            return False
        if stage.command[0] == "train" and not trained(stage.output.parent):
            raise KeyboardInterrupt
        write_text(self._marker(stage), shlex.join(stage.command))
        return True

    def _line(self, stage: Stage) -> list[str]:
        command, *options = stage.command
        if command.endswith(".py"):
            return [sys.executable, str(TOOLS / command), *options]
        return [sys.executable, "-m", "efficientlab_tf", command, *options]

    def _marker(self, stage: Stage) -> Path:
        return self.output / MARKERS / f"{stage.name}.txt"

    def _estimate(self, trainings: Sequence[Stage]) -> None:
        """Times meta-steps where that was not done yet, and prints the hours."""
        total = 0.0
        for stage in trainings:
            key = _speed(stage)
            if key not in self._timings:
                self._timings[key] = _time(stage.name, shlex.split(key))
                text = json.dumps(self._timings, indent=1)
                write_text(self.output / TIMINGS, text)
            timing = self._timings[key]
            total += timing.hours
            print(
                f"{stage.name}: {timing.steps} meta-steps of {timing.seconds:.2f} s, "
                f"{timing.hours:.1f} hours"
            )
        if trainings:
            print(
                f"all trainings: {total:.1f} hours on this machine, from their first "
                "step on, without reading data, validation and measuring"
            )

    def write_report(self) -> Path:
        """Writes the paper's table, also as CSV; returns where."""
        lines = []
        for row in self.rows:
            missing = sorted(set().union(*map(self.missing, row.stages)))
            needs = f"needs {', '.join(missing)}"
            measured = needs if missing else self._measured(row)
            lines.append([row.where, row.what, row.paper, measured])
        parts = [f"# {PAPERS[self._paper].__doc__}", tables.markdown(HEADS, lines)]
        if self._changes:
            texts = [f"{c} {shlex.join(o)}" for c, o in self._changes.items()]
            parts.insert(1, f"With other settings than the paper's: {'; '.join(texts)}")
        times = [
            [stage.name, t.steps, f"{t.seconds:.2f}", f"{t.hours:.1f}"]
            for stage in self.stages.values()
            if stage.command[0] == "train" and (t := self._timings.get(_speed(stage)))
        ]
        if times:
            heads = ["training", "meta-steps", "s a meta-step", "hours"]
            parts.append(tables.markdown(heads, times))
        made = [stage for stage in self.stages.values() if self.done(stage)]
        parts.append("\n".join(f"- {s.name}: {s.output}" for s in made))
        path = self.output / f"{self._paper}.md"
        write_text(path, "\n\n".join(parts) + "\n")
        write_text(path.with_suffix(".csv"), tables.csv_text(HEADS, lines))
        return path

    def _measured(self, row: Row) -> str:
        """What is there: of several stages the mean, each with its interval."""
        done = [s for name in row.stages if self.done(s := self.stages[name])]
        if not done:
            return "not yet"
        found = [row.read(stage.output) for stage in done]
        own = [f"{m:.2f} ± {half:.2f}" for m, half in found if half is not None]
        if len(row.stages) == 1 and own:
            return own[0]
        text = f"{sum(mean for mean, _ in found) / len(found):.2f}"
        text += f" ({', '.join(own)})" * bool(own)
        left = len(row.stages) - len(done)
        return f"{text}, {left} of {len(row.stages)} not yet" if left else text


def start(line: Sequence[str]) -> int:
    """Runs a stage's command; returns its exit status.

    Ctrl-C and SIGTERM are handed on: a training saves its state before it ends.
    """
    process = subprocess.Popen(line)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        raise


def printed(line: Sequence[str]) -> tuple[str, str]:
    """Runs a command; returns what it wrote to stdout and stderr."""
    done = subprocess.run(line, capture_output=True, text=True)
    return done.stdout, done.stderr


def trained(run: Path) -> bool:
    """Whether a run has a checkpoint of its last meta-step."""
    steps = json.loads((run / "config.json").read_text())["train"]["meta_steps"]
    return (run / "checkpoints" / f"ckpt-{steps}.index").is_file()


def _speed(stage: Stage) -> str:
    """What of a training decides how long a meta-step takes, as a command line."""
    flagfile, *options = stage.command[1:]
    # A second flagfile holds what is searched for later.
    elsewhere = (*_ELSEWHERE, "--flagfile=")
    options = [flagfile, *(o for o in options if not o.startswith(elsewhere))]
    # Nothing is downloaded: random weights are as fast.
    options = [o for o in options if not o.startswith("--weights=")] + ["--weights="]
    return shlex.join(options)


def _time(name: str, options: Sequence[str]) -> Timing:
    line = [sys.executable, str(TOOLS / "benchmark.py"), "epoch"]
    line += [option.removeprefix("--flagfile=") for option in options]
    out, err = printed(line)
    found = _TIMED.search(out)
    if not found:
        raise UserError(
            f"meta-steps of {name} could not be timed: {err.strip()[-500:]}"
        )
    return Timing(int(found[2]), float(found[1]))


if __name__ == "__main__":
    run_command(main)
