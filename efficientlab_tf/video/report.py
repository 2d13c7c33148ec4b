"""Measures of videos as tables, CSV files and a plot of accuracy against time."""

import itertools
import operator
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from efficientlab_tf.api.loading import name_of
from efficientlab_tf.evaluation import tables
from efficientlab_tf.files import save_figure, write_text
from efficientlab_tf.segmenters.baselines import BASELINES
from efficientlab_tf.video.metrics import PROTOCOL
from efficientlab_tf.video.sequence import SequenceResult

if TYPE_CHECKING:
    from matplotlib.text import Annotation

_PARTS = [f"{name}_{part}" for name in "JF" for part in ("mean", "recall", "decay")]
_MEASURES = [*_PARTS, "J&F"]
_TIMES = ("adaptation_s", "prediction_s", "compilation_s", "online_updates")
_RESULTS = ("method", "sequence", "object", "frames", *_MEASURES, *_TIMES)
_FRAMES = ("method", "sequence", "frame", "object", "J", "F")
_SPEEDS = ("frames/s, prediction", "frames/s, with adaptation", "s / sequence")


class Row(NamedTuple):
    """A method over sequences.

    Attributes:
      label: its name in tables, with what is annotated.
      model: its model's path, or "".
      results: one a sequence.
      shots: annotated frames.
      points: annotated pixels of each label in each; -1: whole masks.
      method: its name alone.
    """

    label: str
    model: str
    results: tuple[SequenceResult, ...]
    shots: int = 1
    points: int = -1
    method: str = ""

    @property
    def seconds(self) -> float:
        """Mean seconds of a sequence, adaptation and prediction."""
        return float(np.mean([result.seconds for result in self.results]))


def statistics(
    results: Sequence[SequenceResult], index: int | None = None
) -> dict[str, float] | None:
    """Means of J and F, their recall and decay, and J&F, over objects.

    Args:
      results: of sequences.
      index: of the only object that counts; None for all of them.

    Returns:
      Names such as J_mean to numbers in 0..1; None without ground truth.
    """
    objects = [item for result in results for item in result.scores.items()]
    scores = [own for i, own in objects if index in (None, i)]
    if not scores:
        return None
    values = {}
    for measure in _PARTS:
        of_objects = map(operator.attrgetter(measure.lower().replace("_", ".")), scores)
        values[measure] = float(np.mean(list(of_objects)))
    return values | {"J&F": (values["J_mean"] + values["F_mean"]) / 2}


def write_report(output: Path, rows: Sequence[Row]) -> str:
    """Writes table.md, results.csv, per_frame.csv and accuracy_time.png into a folder.

    Rows are of the same sequences, in the order to be shown. Returns the table over all
    sequences.
    """
    overall = _overall(rows)
    results = rows[0].results
    objects = sum(len(result.objects) for result in results)
    frames = sum(result.frames for result in results)
    parts = [
        f"{PROTOCOL}; percent, means over {objects} object(s) in {len(results)} "
        f"sequence(s) of {frames} frames together.\n\n{overall}",
        f"## J\n\n{_j_by_sequence(rows)}",
    ]
    parts += [f"## {row.label}\n\n{_by_sequence(row)}" for row in rows]
    write_text(output / "table.md", "\n".join(parts))
    write_text(output / "results.csv", tables.csv_text(_RESULTS, _results_lines(rows)))
    write_text(output / "per_frame.csv", tables.csv_text(_FRAMES, _frame_lines(rows)))
    draw(output / "accuracy_time.png", rows)
    if len({(row.shots, row.points) for row in rows}) > 1:
        draw_annotations(output / "annotations.png", rows)
    return overall


def draw_annotations(path: Path, rows: Sequence[Row]) -> None:
    """Draws J against the points of a frame, a line for each method and shots.

    (Rakelly et al. 2018, figure 6, right.)
    """
    from matplotlib.figure import Figure

    points = sorted({row.points for row in rows}, key=lambda n: (n < 0, n))
    figure = Figure(figsize=(6.8, 4.6), layout="constrained")
    axes = figure.subplots()
    lines: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        lines.setdefault((row.method, row.shots), []).append(row)
    for (method, shots), own in lines.items():
        values = {points.index(row.points): statistics(row.results) for row in own}
        places = sorted(place for place, value in values.items() if value)
        j = [100 * values[place]["J_mean"] for place in places]
        frames = f"{shots} frame" + ("s" if shots > 1 else "")
        axes.plot(places, j, "o-", label=f"{method}, {frames}")
    names = ["masks" if n < 0 else str(n) for n in points]
    axes.set_xticks(range(len(points)), names)
    axes.set_xlabel("annotated points of each label and annotated frame")
    axes.set_ylabel("J, mean over objects, %")
    axes.grid(alpha=0.25)
    axes.legend(loc="best", fontsize=8)
    save_figure(figure, path, dpi=130)


def _speeds(results: Sequence[SequenceResult]) -> list[str]:
    frames = sum(result.frames for result in results)
    prediction = sum(result.prediction for result in results)
    seconds = sum(result.seconds for result in results)
    speeds = f"{frames / prediction:.1f}", f"{frames / seconds:.2f}"
    return [*speeds, f"{seconds / len(results):.2f}"]


def _cells(
    results: Sequence[SequenceResult],
    index: int | None = None,
    measures: Sequence[str] = ("J_mean", "F_mean", "J&F"),
) -> list[str]:
    values = statistics(results, index)
    return [f"{100 * values[name]:.1f}" if values else "—" for name in measures]


def _overall(rows: Sequence[Row]) -> str:
    heads = ["method", *(name.replace("_", " ") for name in _MEASURES), *_SPEEDS]
    lines = []
    for row in rows:
        cells = _cells(row.results, measures=_MEASURES)
        lines.append([row.label, *cells, *_speeds(row.results)])
    return tables.markdown(heads, lines)


def _j_by_sequence(rows: Sequence[Row]) -> str:
    lines = []
    for of_sequence in zip(*(row.results for row in rows), strict=True):
        for index in of_sequence[0].objects:
            cells = [_cells([result], index)[0] for result in of_sequence]
            lines.append([_object_name(of_sequence[0], index), *cells])
    lines.append(["**mean**", *(_cells(row.results)[0] for row in rows)])
    return tables.markdown(["sequence", *(row.label for row in rows)], lines)


def _object_name(result: SequenceResult, index: int) -> str:
    several = len(result.objects) > 1
    return f"{result.name}, object {index}" if several else result.name


def _by_sequence(row: Row) -> str:
    lines = []
    for result in row.results:
        lines.append([result.name, *_cells([result]), *_speeds([result])])
        if len(result.scores) > 1:
            for index in result.scores:
                cells = _cells([result], index)
                lines.append([_object_name(result, index), *cells, "", "", ""])
    lines.append(["**mean**", *_cells(row.results), *_speeds(row.results)])
    return tables.markdown(["sequence", "J", "F", "J&F", *_SPEEDS], lines)


def _results_lines(rows: Sequence[Row]) -> Iterator[Sequence]:
    for row in rows:
        for result in row.results:
            seconds = result.adaptation, result.prediction, result.compilation
            for index in result.objects:
                scores = statistics([result], index) or dict.fromkeys(_MEASURES)
                numbers = [*scores.values(), *seconds]
                texts = ["" if n is None else f"{n:.6f}" for n in numbers]
                own = row.label, result.name, index, result.frames
                yield [*own, *texts, result.updates]


def _frame_lines(rows: Sequence[Row]) -> Iterator[Sequence]:
    for row in rows:
        for result in row.results:
            for frame, of_frame in sorted(result.per_frame.items()):
                for index, (j, f) in of_frame.items():
                    own = row.label, result.name, frame, index
                    yield [*own, f"{j:.6f}", f"{f:.6f}"]


def draw(path: Path, rows: Sequence[Row]) -> None:
    """Draws J against the seconds of a sequence (Rakelly et al. 2018, figure 6).

    The methods of one model are joined by a line in the order of their time, named in
    the legend; every point has its method's label. Those without ground truth are left
    out.
    """
    # Here, as the import takes a second and most commands draw nothing.
    from matplotlib.figure import Figure
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

    figure = Figure(figsize=(6.8, 4.6), layout="constrained")
    axes = figure.subplots()
    series: dict[str, list[tuple[float, float, str]]] = {}
    for row in rows:
        if values := statistics(row.results):
            point = row.seconds, 100 * values["J_mean"], row.label
            series.setdefault(_series(row), []).append(point)
    style = {"textcoords": "offset points", "fontsize": 8, "ha": "center"}
    texts: list[Annotation] = []
    markers = itertools.cycle("osD^vP")
    for (name, points), marker in zip(series.items(), markers, strict=False):
        points.sort()
        x, y, labels = zip(*points, strict=True)
        several = name if len(labels) > 1 else None
        axes.plot(x, y, f"{marker}-", linewidth=1.2, markersize=6, label=several)
        for *place, label in points:
            texts.append(axes.annotate(label, place, (0, 7), **style))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", fontsize=8)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    places = [point[:2] for points in series.values() for point in points]
    seconds, percents = zip(*places, strict=True) if places else ((1,), (100,))
    axes.set_xlim(min(seconds) / 2, max(seconds) * 2)
    axes.set_ylim(0, min(max(1.3 * max(percents), 10), 105))
    axes.set_xlabel("seconds a sequence, adaptation and prediction")
    axes.set_ylabel("J, mean over objects, %")
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    # A label that would lie on an earlier one comes below its point.
    figure.draw_without_rendering()
    taken = []
    for text in texts:
        if any(text.get_window_extent().overlaps(box) for box in taken):
            text.xyann = (0, -7)
            text.set_verticalalignment("top")
        taken.append(text.get_window_extent())
    save_figure(figure, path, dpi=130)


def _series(row: Row) -> str:
    """What the methods of one model have in common: its name."""
    has_model = row.model and row.label not in BASELINES
    return name_of(row.model) if has_model else row.label
