"""What a search leaves: a table, a picture, and TensorBoard's HParams."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

from efficientlab_tf.files import save_figure, write_text
from efficientlab_tf.hyperparameters.uho import FACTOR, RATE, STEPS, Result

TABLE_FILE = "trials.csv"
FIGURE_FILE = "uho.png"


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
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "round", *names, "mean_iou"])

    def row(trial, number, result: Result) -> list:
        values = (f"{result.values[name]:.6g}" for name in names)
        return [trial, number, *values, f"{result.score:.6f}"]

    writer.writerow(row("untuned", "", untuned))
    for result in results:
        number = result.slot // samples + 1 if samples else ""
        writer.writerow(row(result.slot + 1, number, result))
    write_text(folder / TABLE_FILE, text.getvalue())


def log_trial(log_dir: Path, result: Result) -> None:
    """Writes a trial as a run of its own, once, whoever else tries it too."""
    folder = log_dir / f"trial_{result.slot + 1:04d}"
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default(0):
        hparams.hparams(dict(result.values), trial_id=folder.name)
        tf.summary.scalar("mean_iou", result.score)
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
    steps = [r.values[STEPS] for r in results]
    points = axes.scatter(
        [r.values[rate] for r in results],
        [r.score for r in results],
        c=steps,
        cmap="viridis",
        s=36,
        zorder=3,
    )
    axes.axvline(
        untuned.values[rate], color="tab:blue", linestyle="--", label="meta-training"
    )
    axes.scatter(
        [untuned.values[rate]],
        [untuned.score],
        marker="x",
        s=60,
        color="tab:blue",
        zorder=4,
        label=f"untuned, {untuned.values[STEPS]:g} steps: {untuned.score:.3f}",
    )
    axes.scatter(
        [best.values[rate]],
        [best.score],
        s=140,
        facecolors="none",
        edgecolors="tab:red",
        linewidths=1.6,
        zorder=5,
        label=f"chosen, {best.values[STEPS]:g} steps: {best.score:.3f}",
    )
    axes.set_xscale("log")
    axes.set_xlabel(
        "inner learning rate" if rate == RATE else "factor on the learned rates"
    )
    axes.set_ylabel("mean IoU over tasks")
    axes.grid(True, which="both", alpha=0.25)
    axes.legend(loc="best", fontsize="small")
    bar = figure.colorbar(points, ax=axes, label="steps chosen by early stopping")
    bar.ax.yaxis.get_major_locator().set_params(integer=True)
    save_figure(figure, path)
