"""One method on one fold with one number of shots, in a process of its own.

A peak of memory belongs to a process, and so does what a method compiles. The process
is given a `Unit` as JSON in a file and writes a `Measured` as JSON into another.
"""

import dataclasses
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
from tqdm import tqdm

from efficientlab_tf import quiet  # noqa: F401  (imports TensorFlow, before others do)
from efficientlab_tf.config import CompareConfig
from efficientlab_tf.config.points import DENSE, parse_points
from efficientlab_tf.data.episodes import fixed_episodes
from efficientlab_tf.data.fold_episodes import fold_episodes
from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.episode import Episode
from efficientlab_tf.errors import UserError
from efficientlab_tf.evaluation.meta_test import Example, evaluate, task_seed
from efficientlab_tf.evaluation.methods import Method, build_segmenter
from efficientlab_tf.files import write_text
from efficientlab_tf.metrics import TaskResult
from efficientlab_tf.segmenters.gradient import Segmenter

WARM_UP = 2
_PICTURES = 8


@dataclasses.dataclass(frozen=True)
class Unit:
    """What a process measures.

    Attributes:
      method: the method.
      shots: number of support examples.
      points: annotated pixels of each label in a support mask, see `parse_points`.
      fold: number of the fold; None for a split.
      config: the comparison's.
      stamp: of the files that the result depends on, see `stamp_of`.
    """

    method: Method
    shots: int
    points: str
    fold: int | None
    config: CompareConfig
    stamp: str = ""

    def to_json(self) -> str:
        """For `from_json`."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Unit":
        """The inverse of `to_json`."""
        values = json.loads(text)
        return cls(
            Method.from_dict(values["method"]),
            values["shots"],
            values["points"],
            values["fold"],
            CompareConfig(**values["config"]),
            values["stamp"],
        )


@dataclasses.dataclass(frozen=True)
class Measured:
    """What came out.

    Attributes:
      results: one a task.
      seconds: of a task with one query from its support set to the mask: median of
        `timed` tasks after `WARM_UP` others.
      timed: number of tasks that `seconds` is of.
      peak_bytes: the most memory that the process had, TensorFlow included.
      before_bytes: what it had before the method was built.
      skipped: test pairs with too few support examples.
    """

    results: tuple[TaskResult, ...]
    seconds: float
    timed: int
    peak_bytes: int
    before_bytes: int
    skipped: int = 0

    def to_json(self) -> str:
        """For `from_json`."""
        values = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name != "results"
        }
        results = [
            {
                "name": r.name,
                "draw": r.draw,
                "counts": r.counts.tolist(),
                "soft_iou": r.soft_iou,
            }
            for r in self.results
        ]
        return json.dumps(values | {"results": results})

    @classmethod
    def from_json(cls, text: str) -> "Measured":
        """The inverse of `to_json`."""
        values = json.loads(text)
        results = []
        for r in values.pop("results"):
            result = TaskResult(
                r["name"], r["draw"], np.array(r["counts"]), {}, r["soft_iou"]
            )
            results.append(dataclasses.replace(result, iou_at={0.5: result.iou}))
        return cls(tuple(results), **values)


class Tasks(NamedTuple):
    """The tasks of a unit, see `fixed_episodes`; how many, and how many are not."""

    episodes: Iterator[tuple[Episode, str, int]]
    total: int
    skipped: int = 0


def kind_of(shots: int, points: str) -> str:
    """Says in words what support sets a unit has."""
    text = f"{shots}-shot"
    if points != DENSE:
        text += f", {points} point" + ("s" if points != "1" else "")
    return text


def tasks_of(unit: Unit) -> Tasks:
    """Draws a unit's tasks: the same for every method.

    Raises:
      UserError: unknown dataset, split or fold, or too few examples.
    """
    config = unit.config
    manifest = Manifest.load(config.dataset_dir)
    if unit.fold is not None:
        tasks = fold_episodes(
            manifest,
            unit.fold,
            shots=unit.shots,
            image_size=config.eval_size,
            limit=config.pairs or None,
            points=parse_points(unit.points),
            seed=config.compare_seed,
        )
        return Tasks(*tasks)
    if config.splits:
        manifest = manifest.with_splits(config.splits)
    names = manifest.split(config.eval_split)
    episodes = fixed_episodes(
        manifest,
        names,
        shots=unit.shots,
        queries=config.eval_queries or None,
        splits_per_task=config.splits_per_task,
        seed=config.compare_seed,
        image_size=config.eval_size,
        points=parse_points(unit.points),
    )
    return Tasks(episodes, len(names) * config.splits_per_task)


def measure(unit: Unit) -> tuple[Measured, list[Example]]:
    """Evaluates and times; returns a few pictures, too.

    Raises:
      UserError: bad input.
    """
    process = psutil.Process()
    before = process.memory_info().rss
    segmenter = build_segmenter(
        unit.method, backbone=unit.config.backbone, eval_size=unit.config.eval_size
    )
    tasks = tasks_of(unit)
    label = f"{unit.method.label}, {kind_of(unit.shots, unit.points)}"
    label += "" if unit.fold is None else f", fold {unit.fold}"
    examples: list[Example] = []
    with tqdm(total=tasks.total, unit="task", desc=label, dynamic_ncols=True) as bar:

        def on_task(result: TaskResult, example: Example) -> None:
            wanted = len(examples) * tasks.total // _PICTURES
            if bar.n >= wanted and len(examples) < _PICTURES:
                examples.append(example)
            bar.update()

        results = evaluate(
            segmenter, tasks.episodes, seed=unit.config.compare_seed, on_task=on_task
        )
    seconds = _times(segmenter, unit)
    return (
        Measured(
            tuple(results),
            float(np.median(seconds)),
            len(seconds),
            _peak_bytes(),
            before,
            tasks.skipped,
        ),
        examples,
    )


def _times(segmenter: Segmenter, unit: Unit) -> list[float]:
    """Seconds of each of some tasks, with one query, from support set to mask."""
    count = WARM_UP + unit.config.timed_tasks
    seconds = []
    for episode, name, draw in islice(tasks_of(unit).episodes, count):
        support = [np.asarray(x) for x in episode[:2]]
        query = np.asarray(episode.query_images[:1])
        seed = task_seed(name, draw, unit.config.compare_seed)
        start = time.perf_counter()
        segmenter.adapt(*support, seed=seed).predict(query)
        seconds.append(time.perf_counter() - start)
    return seconds[WARM_UP:] or seconds[-1:]


def _peak_bytes() -> int:
    """The most memory that this process had, as Linux counts it."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return psutil.Process().memory_info().rss


def stamp_of(method: Method, config: CompareConfig) -> str:
    """A digest of what a result depends on: the model's files and the dataset's list.

    Raises:
      UserError: no such model or dataset.
    """
    digest = hashlib.sha256()
    manifest = Manifest.load(config.dataset_dir)
    for path in sorted(manifest.directory.glob("*.*")):
        if path.suffix in (".json", ".csv"):
            digest.update(path.read_bytes())
    if method.model:
        model = Path(method.model)
        if not model.exists():
            raise UserError(
                f"{method.label}: no such run folder or .keras file: {method.model}"
            )
        files = [model] if model.is_file() else model.glob("**/*")
        for path in sorted(files):
            if path.is_file() and "logs" not in path.parts:
                status = path.stat()
                text = f"{path.name} {status.st_size} {status.st_mtime_ns}"
                digest.update(text.encode())
    return digest.hexdigest()[:16]


def run_unit(unit: Unit, path: Path) -> Measured:
    """Measures in a process of its own, or reads what one has already written.

    Args:
      unit: what to measure.
      path: where its result is, or comes to be; unit and pictures lie beside it.

    Raises:
      UserError: the process reported bad input, or ended in another way.
    """
    request = path.with_suffix(".unit.json")
    text = unit.to_json()
    if path.is_file() and request.is_file() and request.read_text() == text:
        return Measured.from_json(path.read_text())
    path.unlink(missing_ok=True)
    write_text(request, text)
    ended = subprocess.run(
        [sys.executable, "-m", __name__, str(request), str(path)], check=False
    )
    if not path.is_file():
        reason = "its error is above"
        if ended.returncode < 0:
            reason = f"it was killed by signal {-ended.returncode}, perhaps for memory"
        raise UserError(
            f"{unit.method.label}, {kind_of(unit.shots, unit.points)} could not be "
            f"measured: {reason}; what was measured before is kept: run the same "
            "command again"
        )
    return Measured.from_json(path.read_text())


def main(argv: list[str]) -> None:
    """The measuring process: paths of a `Unit` and of the `Measured` to write."""
    from efficientlab_tf.evaluation.meta_test import sheet

    request, path = map(Path, argv)
    measured, examples = measure(Unit.from_json(request.read_text()))
    sheet(examples).save(path.with_suffix(".png"))
    write_text(path, measured.to_json())


if __name__ == "__main__":
    from efficientlab_tf.errors import run_command

    run_command(lambda: main(sys.argv[1:]))
