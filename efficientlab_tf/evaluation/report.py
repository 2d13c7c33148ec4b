"""A comparison as a table, a CSV file and a bar chart."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from efficientlab_tf.config.points import DENSE
from efficientlab_tf.evaluation import tables
from efficientlab_tf.evaluation.measure import Measured, kind_of
from efficientlab_tf.files import save_figure, write_text
from efficientlab_tf.metrics import (
    Interval,
    Summary,
    TaskResult,
    both_iou,
    foreground_background,
)

MEAN = "mean"
_RESAMPLES = 1000
_GIB = 2**30
_MOST = 10**9
_MEASURES = ("class_iou", "fb_iou", "positive_iou", "per_image_iou")


@dataclasses.dataclass(frozen=True)
class Row:
    """A method with a number of shots on a fold, or their mean.

    Attributes:
      method: its label.
      shots: number of support examples.
      points: annotated pixels of each label in a support mask; "-1" for dense masks.
      fold: the fold's number as text, the split's name, or "mean".
      class_iou: see `metrics`, as the next three, with 95% intervals.
      fb_iou: its interval is a bootstrap over tasks, as that of
      positive_iou.
      per_image_iou: its interval is over tasks.
      tasks: number of tasks.
      seconds: see `Measured`, as the rest.
      peak_bytes: of the process.
      adaptation: in words.
    """

    method: str
    shots: int
    points: str
    fold: str
    class_iou: Interval
    fb_iou: Interval
    positive_iou: Interval
    per_image_iou: Interval
    tasks: int
    seconds: float
    peak_bytes: int
    adaptation: str = ""

    @classmethod
    def of(
        cls, method: str, shots: int, points: str, fold: str, measured: Measured
    ) -> "Row":
        """Sums up one fold or split."""
        summary = Summary.of(measured.results)
        return cls(
            *(method, shots, points, fold, summary.class_iou),
            *(fb_iou_interval(measured.results), positive_interval(measured.results)),
            *(summary.per_image_iou, summary.tasks),
            *(measured.seconds, measured.peak_bytes, measured.adaptation),
        )

    @classmethod
    def diverged(cls, method: str, shots: int, points: str, fold: str) -> "Row":
        """The row of a method that diverged on one fold or split: not a number."""
        unknown = (Interval(math.nan, math.nan),) * len(_MEASURES)
        return cls(method, shots, points, fold, *unknown, 0, math.nan, 0)

    @classmethod
    def mean(cls, rows: Sequence["Row"]) -> "Row":
        """The mean over folds, as independent samples, of one kind of rows."""

        def over(name: str) -> Interval:
            intervals = [getattr(row, name) for row in rows]
            half = np.linalg.norm([i.half_width for i in intervals]) / len(rows)
            return Interval(float(np.mean([i.mean for i in intervals])), float(half))

        return dataclasses.replace(
            rows[0],
            fold=MEAN,
            **{name: over(name) for name in _MEASURES},
            tasks=sum(row.tasks for row in rows),
            seconds=float(np.median([row.seconds for row in rows])),
            peak_bytes=max(row.peak_bytes for row in rows),
        )


def fb_iou_interval(results: Sequence[TaskResult]) -> Interval:
    """FB-IoU with the 95% interval of a bootstrap over tasks (always the same)."""
    ordered = sorted(results, key=lambda r: (r.name, r.draw))
    counts = [foreground_background(r.counts.sum(0)) for r in ordered]
    return _bootstrapped(counts, lambda total: both_iou(total).mean(-1))


def positive_interval(results: Sequence[TaskResult]) -> Interval:
    """Positive IoU, as `fb_iou_interval`."""
    ordered = sorted(results, key=lambda r: (r.name, r.draw))
    counts = [sum(c.sum(0) for c in r.of_classes().values()) for r in ordered]
    return _bootstrapped(counts, lambda total: both_iou(total)[..., 1])


def _bootstrapped(counts, measure: Callable[[np.ndarray], np.ndarray]) -> Interval:
    """A measure of summed counts [2, 2] of tasks, which are drawn again and again."""
    counts = np.stack(counts)
    rng = np.random.Generator(np.random.Philox(0))
    chosen = rng.integers(0, len(counts), (_RESAMPLES, len(counts)))
    low, high = np.percentile(measure(counts[chosen].sum(1)), [2.5, 97.5])
    return Interval(float(measure(counts.sum(0))), float(high - low) / 2)


def write_report(output_dir: Path, rows: Sequence[Row], title: str) -> str:
    """Writes table.md, results.csv, bars.png, points.png and shots.png.

    The last two are for rows with different numbers of points, and with more than two
    of shots. Returns the table.

    Args:
      output_dir: exists.
      rows: in the order to be shown.
      title: of the chart.
    """
    table = markdown(rows)
    write_text(output_dir / "table.md", table)
    write_text(output_dir / "results.csv", _csv(rows))
    measured = [row for row in _final(rows) if not math.isnan(row.class_iou.mean)]
    if not measured:
        return table
    _draw_bars(output_dir / "bars.png", measured, title)
    if len({row.points for row in rows}) > 1:
        _draw_curve(output_dir / "points.png", measured, title, "points")
    if len({row.shots for row in rows}) > 2:
        _draw_curve(output_dir / "shots.png", measured, title, "shots")
    return table


def markdown(rows: Sequence[Row]) -> str:
    """The table, IoU in percent; a column for each fold if there are several."""
    folds = [f for f in dict.fromkeys(row.fold for row in rows) if f != MEAN]
    columns = [f"fold {fold}" for fold in folds] if len(folds) > 1 else []
    sparse = any(row.points != DENSE for row in rows)
    heads = [
        *("method", "shots", *(["points"] if sparse else []), *columns),
        *("class-wise mIoU", "FB-IoU", "positive IoU", "per-image IoU"),
        *("s / task", "peak GiB", "adaptation"),
    ]
    lines = []
    by_key = {(r.method, r.shots, r.points, r.fold): r for r in rows}
    for row in _final(rows):
        of_folds = []
        if columns:
            key = row.method, row.shots, row.points
            same = (by_key.get((*key, fold)) for fold in folds)
            of_folds = [f"{100 * r.class_iou.mean:.2f}" if r else "—" for r in same]
        lines.append(
            [
                *(row.method, row.shots),
                *(["dense" if row.points == DENSE else row.points] if sparse else []),
                *of_folds,
                *(getattr(row, name) for name in _MEASURES),
                *(f"{row.seconds:.3f}", f"{row.peak_bytes / _GIB:.2f}", row.adaptation),
            ]
        )
    return tables.markdown(heads, lines)


def _final(rows: Sequence[Row]) -> list[Row]:
    """The means over folds where there are folds, or else all."""
    means = [row for row in rows if row.fold == MEAN]
    return means or list(rows)


def _csv(rows: Sequence[Row]) -> str:
    heads = [name for m in _MEASURES for name in (m, f"{m}_half_width")]
    heads = ["method", "shots", "points", "fold", *heads]
    heads += ["tasks", "seconds_per_task", "peak_bytes", "adaptation"]
    lines = []
    for row in rows:
        line = [row.method, row.shots, row.points, row.fold]
        for name in _MEASURES:
            interval = getattr(row, name)
            line += [f"{interval.mean:.6f}", f"{interval.half_width:.6f}"]
        line += [row.tasks, f"{row.seconds:.6f}", row.peak_bytes, row.adaptation]
        lines.append(line)
    return tables.csv_text(heads, lines)


def _draw_bars(path: Path, rows: Sequence[Row], title: str) -> None:
    # Here, as the import takes a second and most commands draw nothing.
    from matplotlib.figure import Figure

    methods = list(dict.fromkeys(row.method for row in rows))
    kinds = sorted({(r.shots, _order(r.points)) for r in rows})
    height = 0.8 / len(kinds)
    figure = Figure(
        figsize=(7.0, 1.4 + 0.28 * len(methods) * (len(kinds) + 0.6)),
        layout="constrained",
    )
    axes = figure.subplots()
    for i, kind in enumerate(kinds):
        own = [row for row in rows if (row.shots, _order(row.points)) == kind]
        places = [methods.index(r.method) + (i + 0.5) * height - 0.4 for r in own]
        bars = axes.barh(
            places,
            [100 * r.class_iou.mean for r in own],
            height,
            xerr=[100 * r.class_iou.half_width for r in own],
            error_kw={"capsize": 2, "elinewidth": 1},
            label=kind_of(own[0].shots, own[0].points),
        )
        for bar, row in zip(bars, own, strict=True):
            end = 100 * (row.class_iou.mean + row.class_iou.half_width)
            axes.annotate(
                f"{100 * row.class_iou.mean:.1f}",
                (end, bar.get_y() + bar.get_height() / 2),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
    axes.set_yticks(range(len(methods)), methods)
    axes.invert_yaxis()
    axes.set_xlabel("class-wise mean IoU, %, with 95% intervals over classes")
    axes.set_title(title, fontsize=10)
    axes.margins(x=0.1)
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)
    axes.legend(loc="best", fontsize=8)
    save_figure(figure, path)


def _order(points: str) -> int:
    """Dense masks come behind any number of points."""
    return _MOST if points == DENSE else int(points)


def _draw_curve(path: Path, rows: Sequence[Row], title: str, along: str) -> None:
    """Draws positive IoU along "points" or "shots", a panel for each of the other."""
    from matplotlib.figure import Figure

    def place(row: Row, name: str) -> int:
        return row.shots if name == "shots" else _order(row.points)

    other = "points" if along == "shots" else "shots"
    numbers, others = (sorted({place(r, n) for r in rows}) for n in (along, other))
    figure = Figure(figsize=(1.5 + 4.5 * len(others), 4.4), layout="constrained")
    panels = figure.subplots(1, len(others), sharey=True, squeeze=False)[0]
    for axes, value in zip(panels, others, strict=True):
        for method in dict.fromkeys(row.method for row in rows):
            own = [r for r in rows if (r.method, place(r, other)) == (method, value)]
            own.sort(key=lambda row: place(row, along))
            axes.errorbar(
                [numbers.index(place(row, along)) for row in own],
                [100 * row.positive_iou.mean for row in own],
                yerr=[100 * row.positive_iou.half_width for row in own],
                marker="o",
                capsize=3,
                label=method,
            )
        axes.set_xticks(range(len(numbers)), map(_shown, numbers))
        names = {"points": "annotated points of each label and support picture"}
        axes.set_xlabel(names.get(along, "support pictures"))
        unit = "-shot" if other == "shots" else " points"
        axes.set_title(f"{title}, {_shown(value)}{unit}", fontsize=10)
        axes.grid(alpha=0.25)
    panels[0].set_ylabel("positive IoU, %, with 95% intervals over tasks")
    panels[-1].legend(loc="best", fontsize=8)
    save_figure(figure, path)


def _shown(number: int) -> str:
    return "dense" if number == _MOST else str(number)
