"""Studies that are killed and started again write the table of one go."""

import contextlib
import csv
import importlib
import json
import os
import random
import runpy
import signal
import sys
import zipfile
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from efficientlab_tf.checkpoint.files import save_keras
from efficientlab_tf.checkpoint.run import RunConfig
from efficientlab_tf.config import DataConfig, LearnerConfig, ModelConfig
from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.evaluation import study
from efficientlab_tf.segmenters.network import Network
from tests.data.annotations.making import write
from tests.forked import CONTEXT
from tests.models.tiny import tiny_network
from tests.promises.runs import PATIENCE

FILE_EVENTS = "open os.mkdir os.rename os.remove os.rmdir os.truncate".split()
COMMANDS = {
    "tune": [
        *("--model=model.keras", "--tune_split=test", "--splits=test=names.txt"),
        *("--tasks=2", "--rounds=2", "--samples=2", "--max_steps=2", "--shots=2"),
    ],
    "compare": [
        *("--methods=all_foreground,own=model.keras", "--splits=test=names.txt"),
        *("--dataset_dir=sample:icons", "--eval_size=32", "--splits_per_task=1"),
        *("--shots=1", "--eval_queries=2", "--timed_tasks=1"),
    ],
    "fpk": [
        *("--model=model.keras", "--dataset_dir=sample:icons", "--ks=2"),
        *("--steps=1", "--draws=2", "--test_examples=2", "--initializations=meta"),
    ],
    "video": [
        *("--davis=DAVIS", "--sequences=one", "--baseline_size=32", "--video=none"),
        "--methods=all_foreground,own=model.keras:inner_steps=1",
    ],
}
ROWS = {
    "tune": {"trials.csv": 5, "tuned.json": 10},
    "compare": {"results.csv": 2},
    "fpk": {"results.csv": 4},
    "video": {"results.csv": 2, "per_frame.csv": 4},
}
"""How many there must be in each table."""
MEASURED_ANEW = {
    "tune": (),
    "compare": ("seconds_per_task", "peak_bytes"),
    "fpk": ("seconds",),
    "video": ("adaptation_s", "prediction_s", "compilation_s"),
}
"""Columns of times and memory."""


def prepare(folder: Path, command: str) -> list[str]:
    """Writes what a command reads; returns its arguments."""
    names = Manifest.load("sample:icons").split("test")[:2]
    (folder / "names.txt").write_text("\n".join(names) + "\n")
    network = Network(tiny_network(32))
    run = RunConfig(
        DataConfig(dataset_dir="sample:icons"),
        ModelConfig(image_size=32),
        LearnerConfig(inner_learning_rate=0.05, inner_steps=2, augment_rate=0.0),
    )
    save_keras(folder / "model.keras", network, network.weights(), run)
    for i in range(3):
        image = np.full((24, 32, 3), 120, np.uint8)
        image[4:16, 4 + i : 16 + i] = 230, 30, 30
        mask = np.uint8(255) * (image[..., 0] == 230)
        frame = {"JPEGImages/480p/one": image, "Annotations/480p/one": mask}
        write(folder / "DAVIS", {f"{d}/{i:05d}.png": x for d, x in frame.items()})
    own = [f"--classes={','.join(names)}"] if command == "fpk" else []
    return [*COMMANDS[command], *own, "--output=out"]


def run(command: str, arguments: list[str], folder: Path, last: int, moments) -> None:
    """Runs a command in this process, which SIGKILL ends at a moment.

    A moment is before each change of a file in the folder, each reading of one, and
    each statement to a database: what a kill leaves of a table differs at no other
    moment.

    Args:
      command: module of the package.
      arguments: of the command line.
      folder: where it runs and writes.
      last: number of the moment, from 1; 0 lets it come to its end.
      moments: a shared value: how many there were.
    """

    def moment(*arguments, **options):
        moments.value += 1
        if moments.value == last:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(event, arguments):
        if event in FILE_EVENTS and isinstance(arguments[0], str | os.PathLike):
            if os.path.abspath(arguments[0]).startswith(f"{folder}{os.sep}"):
                moment()

    def unit(command, check):
        """What `study` starts as a process, and here is killed with it."""
        _, _, module, *arguments = command
        with (
            mock.patch.object(sys, "argv", [module, *arguments]),
            contextlib.suppress(SystemExit),
        ):
            runpy.run_module(module, run_name="__main__")

    os.chdir(folder)
    for stream, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    if command == "tune":
        import sqlalchemy

        searching = importlib.import_module("efficientlab_tf.hyperparameters.study")
        # A killed trial is given up after a second.
        searching.PATIENCE, searching._POLL = 1, 0.1
        engine = sqlalchemy.engine.Engine
        sqlalchemy.event.listen(engine, "before_cursor_execute", moment)
    sys.addaudithook(audit)
    sys.argv = [command, *arguments]
    with mock.patch.object(study.subprocess, "run", unit):
        runpy.run_module(f"efficientlab_tf.{command}", run_name="__main__")


def started(
    command: str, arguments: list[str], folder: Path, last: int = 0
) -> tuple[int, int]:
    """Runs a command in a process of its own; returns its status and moments."""
    moments = CONTEXT.Value("i", 0, lock=False)
    process = CONTEXT.Process(
        target=run, args=(command, arguments, folder, last, moments)
    )
    process.start()
    process.join(PATIENCE)
    return process.exitcode, moments.value


def tables(folder: Path, command: str) -> dict:
    """All tables of a study, but for times and memory."""
    found = {}
    for path in (folder / "out").glob("*.csv"):
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        anew = MEASURED_ANEW[command]
        found[path.name] = [{n: row[n] for n in row if n not in anew} for row in rows]
    if command == "tune":
        path = folder / "out" / "tuned.json"
        found[path.name] = json.loads(path.read_text())
        with zipfile.ZipFile(folder / "model.keras") as file:
            found["model.keras"] = {name: file.read(name) for name in file.namelist()}
    return found


@pytest.mark.parametrize("command", COMMANDS)
def test_killed_and_started_again(command, tmp_path, option):
    if command == "tune":
        pytest.importorskip("optuna", reason="Optuna is not installed")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    arguments = prepare(whole, command)
    prepare(killed, command)
    (killed / "model.keras").write_bytes((whole / "model.keras").read_bytes())
    status, count = started(command, arguments, whole)
    assert status == 0, (whole / "stderr").read_text()
    expected = tables(whole, command)
    for name, rows in ROWS[command].items():
        assert len(expected[name]) == rows, name

    kills = option("command_kills", 1)
    draw = random.Random(f"{command} {option('kill_seed', 0)}")
    # Each goes on in what the last one left, so that all of it is killed.
    most = max(1, 2 * count // (kills + 1))
    ends = [
        started(command, arguments, killed, draw.randint(1, most)) for _ in range(kills)
    ]
    assert (-signal.SIGKILL) in {status for status, _ in ends}
    assert {status for status, _ in ends} <= {0, -signal.SIGKILL}
    status, _ = started(command, arguments, killed)
    assert status == 0, (killed / "stderr").read_text()
    assert tables(killed, command) == expected
