"""Beside learn2learn's MAML in PyTorch: the same gradient, network, weights, task."""

import argparse
import importlib.util
import sys
import tempfile

import numpy as np

from benchmarks.comparison import difference, gib, in_turns, medians
from benchmarks.probe import Probe
from efficientlab_tf.errors import UserError

LOGITS_TOLERANCE = 1e-4
SHOTS, QUERIES, INNER_LEARNING_RATE = 1, 2, 1e-3


def require_learn2learn() -> None:
    """Checks that PyTorch and learn2learn are there, without importing them.

    Raises:
      UserError: one is not.
    """
    missing = [
        name
        for name in ("torch", "learn2learn")
        if importlib.util.find_spec(name) is None
    ]
    if not missing:
        return
    message = (
        f"part learn2learn: {' and '.join(missing)} not found; install what it needs "
        'with `pip install ".[bench]"`'
    )
    if "learn2learn" in missing and sys.version_info >= (3, 11):
        message += (
            "; learn2learn 0.2.0 does not compile from Python 3.11 on, but its MAML "
            "need not be compiled: unpack the archive of its sources from PyPI and put "
            "that folder on PYTHONPATH"
        )
    raise UserError(message)


def compare(options: argparse.Namespace) -> str:
    """Measures the meta-gradient of one task on both sides.

    The processes step in turns. learn2learn's starts from the weights that ours
    writes, and the logits of both at these weights must agree.

    Args:
      options: learn2learn_size, width, inner_steps, repeats, threads; see
        `second_order`.

    Returns:
      A table.

    Raises:
      RuntimeError: the two networks' logits differ.
    """
    tables = []
    for steps in options.inner_steps[:2]:
        table, versions = _table(options, steps)
        tables.append(table)
    size = options.learn2learn_size
    return "\n".join(
        [
            f"learn2learn {versions['learn2learn']}, PyTorch {versions['torch']}: "
            f"MAML's gradient, Meta-DRN, width {options.width:g}, {size}x{size}, "
            f"{SHOTS} shot, {QUERIES} queries, {options.threads} threads",
            *tables,
            f"  times and their ratio: medians of {options.repeats} pairs",
        ]
    )


def _table(options: argparse.Namespace, steps: int) -> tuple[str, dict]:
    """Returns a table, and the versions of the other side."""
    network = {"image_size": options.learn2learn_size, "width": options.width}
    inner = {"inner_steps": steps, "inner_learning_rate": INNER_LEARNING_RATE}
    both = {"shots": SHOTS, "queries": QUERIES, "threads": options.threads}
    with tempfile.TemporaryDirectory() as folder:
        files = [f"{folder}/{name}.npz" for name in ("ours", "theirs")]
        learner = {"learner": "maml", "inner_batch": 0, "loss": "cross_entropy"}
        ours = {
            "step": "gradient",
            "network": ["meta_drn", network],
            "learner": {**learner, **inner, "l2": 0.0},
            **both,
        }
        theirs = {"weights": files[0], **network, **inner, **both}
        with (
            Probe("tensorflow_probe", {**ours, "save": files[0]}) as a,
            Probe("learn2learn_probe", {**theirs, "save": files[1]}) as b,
        ):
            logits = difference(*files, key="logits", norm=np.inf)
            if not logits <= LOGITS_TOLERANCE:
                raise RuntimeError(
                    f"the two networks' logits differ by {logits:.1e} relative: "
                    "nothing else can be compared"
                )
            pairs = in_turns(a, b, options.repeats, f"learn2learn, K={steps}")
        gradients = difference(*files)
    *times, ratio = medians(pairs)
    return "\n".join(
        [
            f"  K={steps:<11}  a step  CPU time  before the step        peak",
            *(
                f"  {name:<11} {time.wall:7.2f} s {time.cpu:7.2f} s "
                f"{gib(probe.started.before):>16} {gib(probe.started.peak):>11}"
                for name, time, probe in zip(
                    ("ours", "learn2learn"), times, (a, b), strict=True
                )
            ),
            f"  ratio {ratio.wall:.2f}, of CPU time {ratio.cpu:.2f}; relative "
            f"differences: {gradients:.1e} of the gradients, "
            f"{logits:.1e} of the logits",
        ]
    ), b.started.facts
