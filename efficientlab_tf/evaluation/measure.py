"""One method on one fold with one number of shots, in a process of its own."""

import dataclasses
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from tqdm import tqdm

from efficientlab_tf import quiet  # noqa: F401  (imports TensorFlow, before others do)
from efficientlab_tf.config import CompareConfig
from efficientlab_tf.config.points import DENSE, parse_points
from efficientlab_tf.data.across_splits import across_splits
from efficientlab_tf.data.episodes import fixed_episodes
from efficientlab_tf.data.fold_episodes import Tasks, fold_episodes
from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.evaluation.meta_test import Row, evaluate, sheet, task_seed
from efficientlab_tf.evaluation.methods import Method, comparable
from efficientlab_tf.evaluation.study import unit_process
from efficientlab_tf.metrics import TaskResult
from efficientlab_tf.segmenters.segmenter import Diverged, Segmenter

WARM_UP = 2
_PICTURES = 8
DIVERGED = "diverged"
"""Key of a unit's only value, a sentence, if its method diverged."""


@dataclasses.dataclass(frozen=True)
class Unit:
    """What a process measures.

    Attributes:
      method: the method.
      shots: number of support examples.
      points: annotated pixels of each label in a support mask, see `parse_points`.
      fold: number of the fold; None for a split.
      config: the comparison's.
      stamp: see `study.stamp_of`.
    """

    method: Method
    shots: int
    points: str
    fold: int | None
    config: CompareConfig
    stamp: str = ""

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Unit":
        """The inverse of `dataclasses.asdict`."""
        method, config = values["method"], values["config"]
        own = {"method": Method.from_dict(method), "config": CompareConfig(**config)}
        return cls(**values | own)

    @property
    def label(self) -> str:
        """The unit in words."""
        fold = "" if self.fold is None else f", fold {self.fold}"
        return f"{self.method.label}, {kind_of(self.shots, self.points)}{fold}"


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
      adaptation: how the method adapts, in words.
    """

    results: tuple[TaskResult, ...]
    seconds: float
    timed: int
    peak_bytes: int
    before_bytes: int
    skipped: int = 0
    adaptation: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for `from_dict`."""
        values = dataclasses.asdict(self)
        for result in values["results"]:
            result["counts"] = result["counts"].tolist()
            del result["iou_at"]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Measured":
        """The inverse of `to_dict`."""
        results = []
        for of_task in values["results"]:
            own = {"counts": np.array(of_task["counts"]), "iou_at": {}}
            result = TaskResult(**of_task | own)
            results.append(dataclasses.replace(result, iou_at={0.5: result.iou}))
        return cls(**values | {"results": tuple(results)})


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
    common = {
        "shots": unit.shots,
        "image_size": config.eval_size,
        "points": parse_points(unit.points),
        "seed": config.seed,
    }
    if unit.fold is not None:
        limit = config.pairs or None
        return fold_episodes(manifest, unit.fold, limit=limit, **common)
    if config.splits:
        manifest = manifest.with_splits(config.splits)
    names = manifest.split(config.eval_split)
    common |= {
        "queries": config.eval_queries or None,
        "splits_per_task": config.splits_per_task,
    }
    if config.support_split:
        splits = config.eval_split, config.support_split
        episodes = across_splits(manifest, *splits, **common)
    else:
        kind = {"ways": config.ways, "family": config.family}
        episodes = fixed_episodes(manifest, names, **kind, **common)
    return Tasks(episodes, len(names) * config.splits_per_task)


def measure(unit: Unit) -> tuple[Measured, list[Row]]:
    """Evaluates and times; returns a few pictures, too."""
    process = psutil.Process()
    before = process.memory_info().rss
    config = unit.config
    segmenter, adaptation = comparable(
        unit.method,
        backbone=config.backbone,
        eval_size=config.eval_size,
        ways=config.ways,
    )
    tasks = tasks_of(unit)
    rows: list[Row] = []
    with tqdm(
        total=tasks.total, unit="task", desc=unit.label, dynamic_ncols=True
    ) as bar:

        def on_task(result: TaskResult, row: Row) -> None:
            if bar.n >= len(rows) * tasks.total // _PICTURES and len(rows) < _PICTURES:
                rows.append(row)
            bar.update()

        results = evaluate(
            segmenter,
            tasks.episodes,
            seed=config.seed,
            disjoint=not config.same_images,
            on_task=on_task,
        )
    seconds = _times(segmenter, unit)
    measured = Measured(
        *(tuple(results), float(np.median(seconds)), len(seconds)),
        *(_peak_bytes(), before, tasks.skipped, adaptation),
    )
    return measured, rows


def _times(segmenter: Segmenter, unit: Unit) -> list[float]:
    """Seconds of each of some tasks, with one query, from support set to mask."""
    count = WARM_UP + unit.config.timed_tasks
    seconds = []
    for episode, name, draw in islice(tasks_of(unit).episodes, count):
        support = [np.asarray(x) for x in episode[:2]]
        query = np.asarray(episode.query_images[:1])
        seed = task_seed(name, draw, unit.config.seed)
        start = time.perf_counter()
        segmenter.for_task(name).adapt(*support, seed=seed).predict(query)
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


def _measure(values: dict[str, Any], path: Path) -> dict[str, Any]:
    try:
        measured, rows = measure(Unit.from_dict(values))
    except Diverged as error:
        return {DIVERGED: str(error)}
    sheet(rows).save(path.with_suffix(".png"))
    return measured.to_dict()


if __name__ == "__main__":
    unit_process(_measure, sys.argv[1:])
