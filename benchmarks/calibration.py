"""Draws how honest the estimates of `adapt` were: what it expected, what was measured.

    python -m benchmarks.calibration photos=photos.json coco=coco.json \\
        --output=docs/calibration.png

The files are those of `benchmarks.own_pictures`, with a name for each. A point is a
task; its bar is the stated 80 % interval, which should reach the diagonal.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np

from efficientlab_tf.errors import UserError
from efficientlab_tf.files import replacing


def points(path: Path) -> np.ndarray:
    """Expected, low, high and measured IoU of each task that has an estimate, in %.

    Raises:
      UserError: there is none.
    """
    results = json.loads(path.read_text(encoding="utf-8"))["results"]
    told = [(*r["expected"], np.mean(r["iou"])) for r in results if "expected" in r]
    if not told:
        raise UserError(f"{path} must hold tasks with an estimate, received none")
    return 100 * np.array(told)


def draw(sets: dict[str, np.ndarray], output: Path) -> None:
    """Writes the figure, a PNG file."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        *(1, len(sets)), figsize=(3.2 * len(sets), 3.6), sharey=True, squeeze=False
    )
    for axis, (name, own) in zip(axes[0], sets.items(), strict=True):
        expected, low, high, measured = own.T
        inside = (low <= measured) & (measured <= high)
        axis.plot([0, 100], [0, 100], color="0.6", linewidth=1)
        for chosen, color in ((inside, "tab:blue"), (~inside, "tab:red")):
            x, y = measured[chosen], expected[chosen]
            reach = np.abs(np.array([low, high])[:, chosen] - y)
            axis.errorbar(x, y, reach, fmt="o", markersize=3, color=color, lw=0.8)
        axis.set_title(f"{name}: {inside.mean():.0%} of {len(own)} inside")
        axis.set_xlabel("measured IoU, %")
        axis.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
    axes[0, 0].set_ylabel("expected IoU and interval, %")
    figure.tight_layout()
    with replacing(output) as partial:
        figure.savefig(partial, format="png", dpi=110)
    pyplot.close(figure)


def main(argv: Sequence[str] | None = None) -> None:
    """Draws as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="+", metavar="NAME=FILE")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args(argv)
    named = (item.rpartition("=") for item in args.results)
    draw({name or path: points(Path(path)) for name, _, path in named}, args.output)
    print(f"written: {args.output}")


if __name__ == "__main__":
    main()
