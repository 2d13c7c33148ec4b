"""Measures of videos as tables, CSV files and a plot of accuracy against time."""

import csv
import io
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from efficientlab_tf.files import save_figure, write_text
from efficientlab_tf.segmenters.baselines import BASELINES
from efficientlab_tf.video.metrics import PROTOCOL, Scores
from efficientlab_tf.video.sequence import SequenceResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation

_PARTS = ("mean", "recall", "decay")


class Row(NamedTuple):
    """A method over sequences.

    Attributes:
      label: the method's.
      model: its model's path, or "".
      results: of each sequence.
    """

    label: str
    model: str
    results: tuple[SequenceResult, ...]

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
    scores = [
        scores
        for result in results
        for i, scores in result.scores.items()
        if index in (None, i)
    ]
    if not scores:
        return None
    values = {
        f"{name}_{part}": float(np.mean([getattr(of(s), part) for s in scores]))
        for name, of in (("J", _j), ("F", _f))
        for part in _PARTS
    }
    return values | {"J&F": (values["J_mean"] + values["F_mean"]) / 2}


def write_report(output: Path, rows: Sequence[Row]) -> str:
    """Writes table.md, results.csv, per_frame.csv and accuracy_time.png.

    Args:
      output: an existing folder.
      rows: of the same sequences, in the order to be shown.

    Returns:
      The table over all sequences.
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
    write_text(output / "results.csv", _results_csv(rows))
    write_text(output / "per_frame.csv", _per_frame_csv(rows))
    draw(output / "accuracy_time.png", rows)
    return overall


def _j(scores: Scores):
    return scores.j


def _f(scores: Scores):
    return scores.f


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _speeds(results: Sequence[SequenceResult]) -> list[str]:
    """Frames a second, predicted alone and with adaptation; seconds a sequence."""
    frames = sum(result.frames for result in results)
    prediction = sum(result.prediction for result in results)
    seconds = sum(result.seconds for result in results)
    return [
        f"{frames / prediction:.1f}",
        f"{frames / seconds:.2f}",
        f"{seconds / len(results):.2f}",
    ]


def _markdown(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    lines = [heads, *lines]
    text = [f"| {' | '.join(cells)} |" for cells in lines]
    text.insert(1, "|---" * len(heads) + "|")
    return "\n".join(text) + "\n"


_SPEEDS = ("frames/s, prediction", "frames/s, with adaptation", "s / sequence")


def _overall(rows: Sequence[Row]) -> str:
    heads = ["method", *(f"{n} {part}" for n in "JF" for part in _PARTS), "J&F"]
    lines = []
    for row in rows:
        values = statistics(row.results)
        cells = [_percent(v) for v in values.values()] if values else ["—"] * 7
        lines.append([row.label, *cells, *_speeds(row.results)])
    return _markdown([*heads, *_SPEEDS], lines)


def _j_by_sequence(rows: Sequence[Row]) -> str:
    """J of each object by each method."""
    lines = []
    for of_sequence in zip(*(row.results for row in rows), strict=True):
        for index in of_sequence[0].objects:
            cells = [_cells([result], index)[0] for result in of_sequence]
            lines.append([_object_name(of_sequence[0], index), *cells])
    means = [_cells(row.results)[0] for row in rows]
    lines.append(["**mean**", *means])
    return _markdown(["sequence", *(row.label for row in rows)], lines)


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
    return _markdown(["sequence", "J", "F", "J&F", *_SPEEDS], lines)


def _cells(results: Sequence[SequenceResult], index: int | None = None) -> list[str]:
    values = statistics(results, index)
    if values is None:
        return ["—"] * 3
    return [_percent(values[name]) for name in ("J_mean", "F_mean", "J&F")]


def _results_csv(rows: Sequence[Row]) -> str:
    measures = [f"{n}_{part}" for n in "JF" for part in _PARTS] + ["J&F"]
    lines = [
        [
            *("method", "sequence", "object", "frames", *measures),
            *("adaptation_s", "prediction_s", "compilation_s", "online_updates"),
        ]
    ]
    for row in rows:
        for result in row.results:
            for index in result.objects:
                values = statistics([result], index) or dict.fromkeys(measures, None)
                scores = ["" if v is None else f"{v:.6f}" for v in values.values()]
                seconds = (result.adaptation, result.prediction, result.compilation)
                lines.append(
                    [
                        *(row.label, result.name, index, result.frames, *scores),
                        *(f"{s:.6f}" for s in seconds),
                        result.updates,
                    ]
                )
    return _csv(lines)


def _per_frame_csv(rows: Sequence[Row]) -> str:
    lines = [["method", "sequence", "frame", "object", "J", "F"]]
    for row in rows:
        for result in row.results:
            for frame, of_frame in sorted(result.per_frame.items()):
                for index, (j, f) in of_frame.items():
                    cells = [frame, index, f"{j:.6f}", f"{f:.6f}"]
                    lines.append([row.label, result.name, *cells])
    return _csv(lines)


def _csv(lines: Sequence[Sequence]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(lines)
    return file.getvalue()


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
    points: dict[str, list[tuple[float, float, str]]] = {}
    texts: list[Annotation] = []
    for row in rows:
        values = statistics(row.results)
        if values:
            point = row.seconds, 100 * values["J_mean"], row.label
            points.setdefault(_series(row), []).append(point)
    for (name, of_model), marker in zip(
        points.items(), itertools.cycle("osD^vP"), strict=False
    ):
        of_model.sort()
        x, y, labels = zip(*of_model, strict=True)
        several = name if len(labels) > 1 else None
        axes.plot(x, y, f"{marker}-", linewidth=1.2, markersize=6, label=several)
        texts += [
            axes.annotate(
                label,
                place,
                (0, 7),
                textcoords="offset points",
                fontsize=8,
                ha="center",
            )
            for place, label in zip(zip(x, y, strict=True), labels, strict=True)
        ]
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", fontsize=8)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    places = [point[:2] for of_model in points.values() for point in of_model]
    seconds, percents = zip(*places, strict=True) if places else ((1,), (100,))
    axes.set_xlim(min(seconds) / 2, max(seconds) * 2)
    axes.set_ylim(0, min(max(1.3 * max(percents), 10), 105))
    axes.set_xlabel("seconds a sequence, adaptation and prediction")
    axes.set_ylabel("J, mean over objects, %")
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    _part(figure, texts)
    save_figure(figure, path, dpi=130)


def _part(figure: "Figure", texts: "Sequence[Annotation]") -> None:
    """Puts a label that would lie on an earlier one below its point."""
    figure.draw_without_rendering()
    taken = []
    for text in texts:
        if any(text.get_window_extent().overlaps(box) for box in taken):
            text.xyann = (0, -7)
            text.set_verticalalignment("top")
        taken.append(text.get_window_extent())


def _series(row: Row) -> str:
    """What the methods of one model have in common: its name."""
    if not row.model or row.label in BASELINES:
        return row.label
    path = Path(row.model)
    return path.parent.name if path.name == "model.keras" else path.stem
