"""A worker process of a search whose objective is a formula: no TensorFlow.

python -m tests.hyperparameters.analytic_worker FOLDER [--seconds S] [--hang SLOT]
"""

import argparse
import math
import time
from pathlib import Path

from efficientlab_tf.hyperparameters.journal import Journal, Plan, quiet_optuna
from efficientlab_tf.hyperparameters.liveness import Liveness, this_process
from efficientlab_tf.hyperparameters.uho import RATE, STEPS, Range

PLAN = Plan(
    {RATE: Range(1e-4, 1.0, log=True), STEPS: Range(1, 50, integer=True)},
    rounds=3,
    samples=5,
    keep=0.4,
    # With five samples a round, other seeds refine away from the optimum.
    seed=1,
)
SETTINGS = {"shots": 5, "ranges": {RATE: (1e-4, 1.0)}}


def score(rate: float) -> tuple[float, int]:
    """A hill over the logarithm of the rate, its top at 0.01 and 8 steps."""
    distance = math.log10(rate) + 2
    return math.exp(-(distance**2)), min(50, max(1, round(8 * 10 ** (-distance / 2))))


def open_journal(
    folder: Path, owner: str, settings: dict = SETTINGS, plan: Plan = PLAN
) -> Journal:
    """Opens the journal in a folder as `owner`."""
    quiet_optuna()
    liveness = Liveness(folder / "alive", owner)
    return Journal(folder / "journal.log", settings, plan, liveness, owner)


def run_one(journal: Journal) -> int | None:
    """Runs a trial; returns its slot, or None if there was none to take."""
    claim = journal.claim()
    if claim is None:
        return None
    value, steps = score(claim.values[RATE])
    steps = min(max(steps, claim.steps.low), claim.steps.high)
    journal.report(claim, steps, value)
    journal.finish(claim, steps, value)
    return claim.slot


def main() -> None:
    """Runs trials until the search is finished, or hangs in one to be killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--hang", type=int, default=-1)
    options = parser.parse_args()
    owner = this_process()
    journal = open_journal(options.folder, owner)
    with Liveness(options.folder / "alive", owner):
        while not journal.finished():
            claim = journal.claim()
            if claim is None:
                time.sleep(0.02)
                continue
            print(f"claimed {claim.slot}", flush=True)
            while claim.slot == options.hang:
                time.sleep(0.1)
            time.sleep(options.seconds)
            value, steps = score(claim.values[RATE])
            steps = min(max(steps, claim.steps.low), claim.steps.high)
            journal.report(claim, steps, value)
            journal.finish(claim, steps, value)


if __name__ == "__main__":
    main()
