"""What a search leaves: a table, a picture, and TensorBoard's HParams."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

from efficientlab_tf.evaluation import tables
from efficientlab_tf.files import save_figure, write_text
from efficientlab_tf.hyperparameters.uho import FACTOR, RATE, STEPS, Result

TABLE_FILE = "trials.csv"
FIGURE_FILE = "uho.png"
_SCORE = "mean_iou"


def write_table(
    folder: Path, results: Sequence[Result], samples: int, untuned: Result
) -> None:
    """Writes trials.csv: one row a configuration, first the checkpoint's own.

    Args:
      folder: where.
      results: the trials.
      samples: configurations in a round; 0 where there are no rounds.
      untuned: the checkpoint's own settings.
    """
    names = list(untuned.values)

    def row(trial, number, result: Result) -> list:
        values = (f"{result.values[name]:.6g}" for name in names)
        return [trial, number, *values, f"{result.score:.6f}"]

    rows = [row("untuned", "", untuned)]
    for result in results:
        number = result.slot // samples + 1 if samples else ""
        rows.append(row(result.slot + 1, number, result))
    text = tables.csv_text(["trial", "round", *names, "mean_iou"], rows)
    write_text(folder / TABLE_FILE, text)


def log_untuned(
    log_dir: Path, untuned: Result, ranges: Mapping[str, tuple[float, float]]
) -> None:
    """Tells HParams what is searched; the checkpoint's own settings are a run, too.

    Args:
      log_dir: the folder that TensorBoard is pointed at.
      untuned: the checkpoint's own settings.
      ranges: the least and the greatest value of each name.
    """
    searched = [
        hparams.HParam(name, hparams.RealInterval(float(low), float(high)))
        for name, (low, high) in ranges.items()
    ]
    metrics = [hparams.Metric(_SCORE, display_name="mean IoU")]
    _log(
        log_dir / "untuned", untuned, lambda: hparams.hparams_config(searched, metrics)
    )


def log_trial(log_dir: Path, result: Result) -> None:
    """Writes a trial as a run of its own, once, whoever else tries it too."""
    _log(log_dir / f"trial_{result.slot + 1:04d}", result)


def _log(folder: Path, result: Result, begin: Callable[[], Any] = lambda: None) -> None:
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default(0):
        begin()
        hparams.hparams(dict(result.values), trial_id=folder.name)
        tf.summary.scalar(_SCORE, result.score)
        for step, score in enumerate(result.curve):
            tf.summary.scalar("mean_iou_after_steps", score, step)
    writer.close()


def draw(path: Path, results: Sequence[Result], untuned: Result, best: Result) -> None:
    """Draws mean IoU against the learning rate (Hendryx et al., figure 2).

    Args:
      path: of the PNG.
      results: the trials: a point each, coloured by its number of steps.
      untuned: the checkpoint's own settings: a dashed line at its rate, and a cross.
      best: the chosen one: a ring.
    """
    from matplotlib.figure import Figure

    rate = RATE if RATE in untuned.values else FACTOR
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()

    def scatter(results: Sequence[Result], **style):
        rates, scores = [r.values[rate] for r in results], [r.score for r in results]
        return axes.scatter(rates, scores, **style)

    def label(what: str, result: Result) -> str:
        return f"{what}, {result.values[STEPS]:g} steps: {result.score:.3f}"

    steps = [r.values[STEPS] for r in results]
    points = scatter(results, c=steps, cmap="viridis", s=36, zorder=3)
    blue = {"color": "tab:blue"}
    axes.axvline(untuned.values[rate], linestyle="--", label="meta-training", **blue)
    cross = {"marker": "x", "s": 60, "zorder": 4, **blue}
    scatter([untuned], label=label("untuned", untuned), **cross)
    ring = {"s": 140, "facecolors": "none", "edgecolors": "tab:red", "linewidths": 1.6}
    scatter([best], label=label("chosen", best), zorder=5, **ring)
    axes.set_xscale("log")
    learned = "factor on the learned rates"
    axes.set_xlabel("inner learning rate" if rate == RATE else learned)
    axes.set_ylabel("mean IoU over tasks")
    axes.grid(True, which="both", alpha=0.25)
    axes.legend(loc="best", fontsize="small")
    bar = figure.colorbar(points, ax=axes, label="steps chosen by early stopping")
    bar.ax.yaxis.get_major_locator().set_params(integer=True)
    save_figure(figure, path)
