"""A worker process of a search whose objective is a formula: no TensorFlow.

python -m tests.hyperparameters.analytic_worker FOLDER [--seconds S] [--hang SLOT]
"""

import argparse
import math
import time
from pathlib import Path

from efficientlab_tf.hyperparameters.study import open_study, run_trials
from efficientlab_tf.hyperparameters.uho import AUGMENT, RATE, STEPS, Plan, Range

PLAN = Plan(
    {
        RATE: Range(1e-4, 1.0, log=True),
        AUGMENT: Range(0.0, 1.0),
        STEPS: Range(1, 50, integer=True),
    },
    rounds=3,
    samples=5,
    keep=0.4,
    seed=1,
)
SETTINGS = {"shots": 5, "ranges": {RATE: (1e-4, 1.0)}}


def score(rate: float, augment: float, low: float, high: float) -> tuple[int, float]:
    """A hill with its top at a rate of 0.01, and fewer steps for higher rates."""
    distance = math.log10(rate) + 2
    steps = round(8 * 10 ** (-distance / 2))
    return min(max(steps, low), high), math.exp(-(distance**2)) - 0.1 * augment


def run(folder: Path, plan: Plan = PLAN, before=lambda slot: None, **options):
    """Runs a search to its end; returns its results and which slots it ran itself.

    Args:
      folder: of the database.
      plan: the search.
      before: called with the slot before it is scored.
      **options: of `run_trials`.
    """
    slots = []

    def evaluate(slot, values, steps, report):
        before(slot)
        slots.append(slot)
        chosen, value = score(values[RATE], values[AUGMENT], steps.low, steps.high)
        report(chosen, value)
        return chosen, value

    results = run_trials(open_study(folder, SETTINGS), plan, evaluate, **options)
    return results, slots


def main() -> None:
    """Runs trials until the search is finished, or hangs in one to be killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--hang", type=int, default=-1)
    options = parser.parse_args()

    def before(slot: int) -> None:
        print(slot, flush=True)
        while slot == options.hang:
            time.sleep(0.1)
        time.sleep(options.seconds)

    run(options.folder, before=before)


if __name__ == "__main__":
    main()
