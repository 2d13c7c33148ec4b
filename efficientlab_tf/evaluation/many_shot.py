"""Adapting initializations to k examples of each class, and measuring them.

Every adaptation is a row of results.csv, written when it is done: a study that is
stopped goes on where it was. A draw of examples is a function of the seed, the class
and the draw's number, the same for all initializations; a larger k adds examples.
"""

import csv
import dataclasses
import itertools
import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from efficientlab_tf.api.model import Model
from efficientlab_tf.config import OWN, Settings
from efficientlab_tf.data.episodes import fixed_episodes
from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.episode import Episode
from efficientlab_tf.errors import UserError
from efficientlab_tf.evaluation import tables
from efficientlab_tf.evaluation.meta_test import task_seed
from efficientlab_tf.files import save_figure, write_text, writing
from efficientlab_tf.metrics import Interval, TaskResult
from efficientlab_tf.segmenters.adaptation import (
    MAX_AUTO_STEPS,
    choose_held_out,
    search_steps,
)
from efficientlab_tf.segmenters.segmenter import Diverged

LABELS = {
    **{"meta": "meta-learned", "imagenet": "ImageNet encoder", "random": "random"},
    **{"auto": "chosen by search", "linear": "linear classifiers"},
    "meta_learned": "closed form, several sizes",
}
"""Name of an initialization, or of a search, to what tables and curves call it."""

_COLUMNS = {
    **{"initialization": str, "k": int, "class": str, "draw": int},
    **{"steps": int, "iou": float, "seconds": float},
}
_TABLE, _SETTINGS = "results.csv", "settings.json"


@dataclasses.dataclass(frozen=True)
class Row:
    """One adaptation; its `iou` is not a number if it diverged."""

    initialization: str
    k: int
    class_name: str
    draw: int
    steps: int
    iou: float
    seconds: float

    @property
    def key(self) -> tuple:
        """What makes it another adaptation than the others."""
        return self.initialization, self.k, self.class_name, self.draw


@dataclasses.dataclass(frozen=True)
class Study:
    """What is tried.

    Attributes:
      manifest: the dataset.
      classes: of it.
      steps: k to the number of inner steps; 0 finds it by early stopping on a fifth
        of the examples that is held out (with one example: one step).
      draws: draws of examples for each class and k.
      test_examples: others that each adaptation is measured on.
      settings: how each adapts, but for its steps.
      seed: of draws and adaptations.
    """

    manifest: Manifest
    classes: tuple[str, ...]
    steps: Mapping[int, int]
    draws: int
    test_examples: int
    settings: Settings
    seed: int

    def check(self) -> None:
        """Checks that every class has enough examples, before the first adaptation.

        Raises:
          UserError: it names the classes, and the largest k that each can serve.
        """
        most: dict[str, int] = {}
        for name in self.classes:
            if name not in self.manifest.classes:
                raise UserError(
                    f"`classes`: {self.manifest.name} has no class {name!r}; it has "
                    f"{', '.join(sorted(self.manifest.classes))}"
                )
            most[name] = self.manifest.classes[name].count - self.test_examples
        lacking = [
            f"{name} serves k up to {max(served, 0)}, not "
            f"{', '.join(str(k) for k in self.steps if k > served)}"
            for name, served in most.items()
            if served < max(self.steps)
        ]
        if lacking:
            raise UserError(
                f"with {self.test_examples} test examples {'; '.join(lacking)}: give "
                "smaller `ks`, fewer `test_examples`, or `classes` without these"
            )

    def run(
        self,
        starts: Mapping[str, tuple[Model, float | None]],
        rows: list[Row],
        output_dir: Path,
    ) -> list[Row]:
        """Runs the adaptations that are missing; returns all rows.

        Args:
          starts: name of an initialization to its model and inner learning rate; None
            is the model's own.
          rows: what was done before, of `open_results`.
          output_dir: its folder; results.csv grows by a row an adaptation.

        Raises:
          UserError: a class with too few examples, or earlier rows of other steps.
        """
        rows = list(rows)
        for row in rows:
            if row.steps and self.steps.get(row.k) not in (None, 0, row.steps):
                raise UserError(
                    f"{output_dir} holds results of {row.steps} steps for k = {row.k}, "
                    f"now {self.steps[row.k]} are asked for; choose another folder"
                )
        done = {row.key for row in rows}
        draws = range(self.draws)
        wanted = list(itertools.product(starts, self.steps, self.classes, draws))
        there = len(done.intersection(wanted))
        total = {"total": len(wanted), "initial": there, "unit": "task"}
        with (
            open(output_dir / _TABLE, "a", newline="") as file,
            tqdm(**total, dynamic_ncols=True) as bar,
        ):
            writer = csv.writer(file)
            for episode, k, name, draw in self._episodes(starts, done):
                for start, (model, rate) in starts.items():
                    key = start, k, name, draw
                    if key in done:
                        continue
                    own = self.settings | Settings(learning_rate=rate)
                    seed = task_seed(name, draw, self.seed)
                    rows.append(_adapted(model, own, episode, self.steps[k], key, seed))
                    *first, iou, seconds = dataclasses.astuple(rows[-1])
                    writer.writerow([*first, f"{iou:.6f}", f"{seconds:.2f}"])
                    file.flush()
                    bar.update()
                    bar.set_postfix_str(f"{start}, k = {k}", refresh=False)
        return rows

    def _episodes(
        self, starts: Mapping[str, tuple[Model, float | None]], done: set
    ) -> Iterator[tuple[Episode, int, str, int]]:
        """Those with something missing, in a lazy stream: many are large."""
        # A search takes pictures of any size, so those of the others.
        models = [model for model, _ in starts.values()]
        size = min(models, key=lambda model: model.any_size).size
        for k in self.steps:
            keys = itertools.product(starts, (k,), self.classes, range(self.draws))
            names = tuple(dict.fromkeys(key[2] for key in keys if key not in done))
            if not names:
                continue
            tasks = fixed_episodes(
                *(self.manifest, names),
                shots=k,
                queries=self.test_examples,
                splits_per_task=self.draws,
                seed=self.seed,
                image_size=size,
            )
            for episode, name, draw in tasks:
                yield episode, k, name, draw


def _adapted(
    model: Model, settings: Settings, episode: Episode, steps, key, seed
) -> Row:
    began = time.perf_counter()
    images, masks = episode.support_images.numpy(), episode.support_masks.numpy()
    if not model.has_steps:
        steps, settings = 0, OWN
    try:
        if model.has_steps and not steps:
            chosen = choose_held_out(masks, seed)
            steps = 1
            if chosen:
                longest = model.segmenter(1, settings | Settings(steps=MAX_AUTO_STEPS))
                steps = search_steps(longest, images, masks, chosen, seed=seed).steps
        if model.has_steps:
            settings |= Settings(steps=steps)
        segmenter = model.segmenter(1, settings)
        adapted = segmenter.adapt(images, masks, seed=seed)
        probabilities = adapted.predict(episode.query_images.numpy())
    except Diverged:
        iou = math.nan
    else:
        truth = episode.query_masks.numpy()
        iou = TaskResult.of(*key[2:], truth, probabilities).iou
    return Row(*key, steps, iou, time.perf_counter() - began)


def open_results(output_dir: Path, settings: dict) -> list[Row]:
    """Starts a folder of results, or reads what one holds.

    Args:
      output_dir: the folder.
      settings: plain values that all its results must have in common.

    Raises:
      UserError: it cannot be written, is damaged, or holds results of other settings.
    """
    path, table = output_dir / _SETTINGS, output_dir / _TABLE
    try:
        with writing(f"to {output_dir}"):
            output_dir.mkdir(parents=True, exist_ok=True)
            if not path.is_file():
                # The table first: with the settings, both are there.
                write_text(table, ",".join(_COLUMNS) + "\n")
                write_text(path, json.dumps(settings, indent=2))
                return []
            before = json.loads(path.read_text())
            _cut_torn_line(table)
            with open(table, newline="") as file:
                lines = list(csv.DictReader(file))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path} cannot be read ({error}); choose another `output`"
        ) from error
    other = [name for name in settings if before.get(name) != settings[name]]
    if other:
        raise UserError(
            f"{output_dir} holds results of other settings: {other[0]} was "
            f"{before.get(other[0])!r}, now {settings[other[0]]!r}; choose another "
            "`output`"
        )
    rows = []
    for line in lines:
        try:
            rows.append(Row(*(kind(line[name]) for name, kind in _COLUMNS.items())))
        except (TypeError, ValueError):
            raise UserError(
                f"{table} has a line that is not a result: {line}; delete it, and that "
                "adaptation is done again"
            ) from None
    return rows


def _cut_torn_line(path: Path) -> None:
    """Removes the end of a file that a killed process did not write to its newline."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)


def write_report(output_dir: Path, rows: Sequence[Row]) -> str:
    """Writes table.md and curve.png; returns the table."""
    names = [name for name in LABELS if any(r.initialization == name for r in rows)]
    ks = sorted({row.k for row in rows})
    intervals = {
        (name, k): Interval.of(values)
        for name in names
        for k in ks
        if (values := [r.iou for r in rows if r.initialization == name and r.k == k])
    }
    lines = [[k, *(intervals.get((name, k), "—") for name in names)] for k in ks]
    table = tables.markdown(["k", *(LABELS[name] for name in names)], lines)
    write_text(output_dir / "table.md", table)
    _draw(output_dir / "curve.png", names, ks, intervals)
    return table


def _draw(path: Path, names, ks, intervals) -> None:
    # Here, as the import takes a second and most commands draw nothing.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    for name, marker in zip(names, "os^Dv", strict=False):
        shown = [k for k in ks if (name, k) in intervals]
        axes.errorbar(
            shown,
            [100 * intervals[name, k].mean for k in shown],
            [100 * intervals[name, k].half_width for k in shown],
            marker=marker,
            capsize=3,
            label=LABELS[name],
        )
    axes.set_xscale("log")
    axes.set_xticks(ks, map(str, ks))
    axes.minorticks_off()
    axes.set_xlabel("labelled examples, k")
    axes.set_ylabel("mean per-image IoU, %")
    axes.grid(alpha=0.25)
    axes.legend(loc="best")
    save_figure(figure, path)
