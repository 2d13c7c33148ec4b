"""What a reproduction of a paper is made of: stages, and rows of its table.

A stage is one command line that leaves one file. A row is a number of a paper, and how
the measured one is read from what stages leave.
"""

import csv
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

FLAGS = Path(__file__).parents[1] / "flags"

INPUTS = {
    "FSS-1000": ("*/1.jpg", 2, "a folder of class folders with 1.jpg and 1.png"),
    "VOC": ("SegmentationClass", 1, "VOC2012's folder, with SegmentationClass"),
    "SBD": ("cls", 1, "benchmark_RELEASE/dataset, with cls"),
    "DAVIS": ("Annotations/480p", 2, "DAVIS 2017's folder, with Annotations/480p"),
    "alexnet_1000": ("alexnet_1000.npz", 0, "alexnet_1000.npz, see models/alexnet.py"),
    "alexnet_771": ("alexnet_771.npz", 0, "alexnet_771.npz, see models/alexnet.py"),
    "COCO": ("annotations/instances_val2017.json", 2, "COCO 2017, with val2017"),
    "icons": ("icons/dataset.json", 1, "icons-fss, converted into a folder icons"),
    "ccp": ("ccp/dataset.json", 1, "Clothing Co-Parsing, converted into a folder ccp"),
}
"""What a person has: what tells a folder, how many levels below it, and in words."""


class Stage(NamedTuple):
    """One command line.

    Attributes:
      name: its own in the plan.
      command: `efficientlab`'s command, or a script of tools/, and its options.
      output: the file that is there when it is done.
      needs: names of inputs and of earlier stages.
    """

    name: str
    command: tuple[str, ...]
    output: Path
    needs: tuple[str, ...]


class Row(NamedTuple):
    """A number of a paper.

    Attributes:
      where: its table or figure.
      what: of it.
      paper: the number as the paper has it.
      stages: names of what is measured; of several the mean is shown.
      read: maps the output of a stage to the measured (number, half of its 95 %
        interval or None), in percent.
    """

    where: str
    what: str
    paper: str
    stages: tuple[str, ...]
    read: Callable[[Path], tuple[float, float | None]]


def find_inputs(data: Path) -> dict[str, Path]:
    """Finds what of `INPUTS` lies in a folder or in three levels below it."""
    found = {}
    for name, (mark, levels, _) in INPUTS.items():
        for depth in range(4):
            if paths := sorted(data.glob("*/" * depth + mark)):
                found[name] = [paths[0], *paths[0].parents][levels]
                break
    return found


class Plan:
    """The stages and rows of a paper.

    Args:
      inputs: see `find_inputs`; of what is missing the name stands in command lines.
      output: folder of datasets/, runs/ and results/.
    """

    def __init__(self, inputs: dict[str, Path], output: Path):
        self.inputs = {name: Path(name) for name in INPUTS} | inputs
        self.output = output
        self.stages: dict[str, Stage] = {}
        self.rows: list[Row] = []

    def convert(self, name: str, source: str, *options: str, **inputs: str) -> Path:
        """Adds the conversion of inputs, by their options; returns the dataset."""
        folder = self.output / "datasets" / name
        found = [f"--{o}={self.inputs[i]}" for o, i in inputs.items()]
        command = ("convert", source, *found, f"--output_dir={folder}", *options)
        needs = tuple(inputs.values())
        self._add(f"convert_{name}", command, folder / "dataset.json", needs)
        return folder

    def train(
        self,
        name: str,
        flagfile: str,
        data: Path,
        *changes: str,
        needs: Sequence[str] = (),
    ) -> Path:
        """Adds a training, which may need inputs; returns the run's folder."""
        run = self.output / "runs" / name
        command = ("train", f"--flagfile={FLAGS / flagfile}.flags", *changes)
        command += (f"--dataset_dir={data}", f"--run_dir={run}")
        self._add(f"train_{name}", command, run / "model.keras", needs)
        return run

    def measure(self, name: str, command: str, *options: str, file: str) -> str:
        """Adds a command that writes into results/NAME; returns its stage's name."""
        folder = self.output / "results" / name
        line = (*command.split(), *options, f"--output={folder}")
        self._add(f"{command.split()[0]}_{name}", line, folder / file, ())
        return f"{command.split()[0]}_{name}"

    def draw(self, name: str, figure: str, run: Path, data: Path, *options) -> None:
        """Adds a figure of tools/figure.py."""
        path = self.output / "results" / f"{name}.png"
        line = ("figure.py", figure, f"--model={run}", f"--dataset_dir={data}")
        self._add(f"draw_{name}", (*line, f"--output={path}", *options), path, ())

    def row(self, where: str, what: str, paper: str, stages, read: Callable) -> None:
        """Adds a row; `stages` is a name or several."""
        stages = (stages,) if isinstance(stages, str) else tuple(stages)
        self.rows.append(Row(where, what, paper, stages, read))

    def _add(self, name: str, command, output: Path, needs: Sequence[str]) -> None:
        # And every stage whose folder the command line names.
        named = set(re.split("[=,: ]", " ".join(command)))
        made = [s.name for s in self.stages.values() if str(s.output.parent) in named]
        self.stages[name] = Stage(name, tuple(command), output, (*needs, *made))


def of_evaluate(path: Path) -> tuple[float, float]:
    """Per-image IoU of a summary.json."""
    return _interval(json.loads(path.read_text())["metrics"]["per_image_iou"])


def of_threshold(threshold: float) -> Callable[[Path], tuple[float, float]]:
    """Reads the same at one of several thresholds."""

    def read(path: Path) -> tuple[float, float]:
        values = json.loads(path.read_text())["metrics"]["per_image_iou_at"]
        return _interval({float(key): v for key, v in values.items()}[threshold])

    return read


def _interval(values: dict[str, float]) -> tuple[float, float]:
    return 100 * values["mean"], 100 * values["half_width"]


def of_compare(
    method: str, shots: int, points: str = "-1", measure: str = "class_iou"
) -> Callable[[Path], tuple[float, float]]:
    """Reads a measure beside a table.md of compare."""

    def read(path: Path) -> tuple[float, float]:
        known = {"method": method, "shots": str(shots), "points": points}
        (row,) = _rows(path, known)
        return 100 * float(row[measure]), 100 * float(row[f"{measure}_half_width"])

    return read


def of_share(shots: int) -> Callable[[Path], tuple[float, None]]:
    """Reads what part of supervised learning's positive IoU guidance reaches."""

    def read(path: Path) -> tuple[float, None]:
        methods = "guided", "supervised"
        reads = [of_compare(m, shots, measure="positive_iou") for m in methods]
        own, other = (found(path)[0] for found in reads)
        return 100 * own / other, None

    return read


def of_fpk(start: str, k: int) -> Callable[[Path], tuple[float, None]]:
    """Reads the mean over classes and draws of an initialization with k examples."""
    return _mean({"initialization": start, "k": str(k)}, "iou")


def of_video(label: str) -> Callable[[Path], tuple[float, None]]:
    """Reads the mean of J over objects of a method with its annotation."""
    return _mean({"method": label}, "J_mean")


def _mean(known: dict[str, str], column: str) -> Callable[[Path], tuple[float, None]]:
    def read(path: Path) -> tuple[float, None]:
        values = [float(row[column]) for row in _rows(path, known) if row[column]]
        return 100 * sum(values) / len(values), None

    return read


def _rows(path: Path, known: dict[str, str]) -> list[dict[str, str]]:
    with open(path.parent / "results.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if known.items() <= row.items()]
