"""Update-hyperparameter optimization (Hendryx et al., algorithms 1 and 2).

    for round = 1..b:
        n times:  omega ~ space;  L, j* = evaluate(omega);  remember (omega, j*), L
        space   = for each hyperparameter, [min, max] over the best x of all remembered
    return the best remembered

omega holds the learning rate of the inner loop and whatever else has a range. The
number of steps j is a hyperparameter too, but it is not sampled: `evaluate` finds it
by early stopping, between the bounds that the space has for it.

All is a pure function, so that workers that share their results agree on the space of
a round. `study` runs it with Optuna.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from efficientlab_tf.errors import UserError

RATE = "inner_learning_rate"
FACTOR = "rates_factor"
"""A factor on learned rates (Meta-SGD's), which leave no single rate to choose."""
STEPS = "inner_steps"
BATCH = "inner_batch"
AUGMENT = "augment_rate"
DROPOUT = "final_dropout"


@dataclasses.dataclass(frozen=True)
class Range:
    """The values that a hyperparameter may take, both ends included.

    Attributes:
      low: the smallest.
      high: the largest; may equal `low`.
      log: sampled uniformly in the logarithm.
      integer: whole numbers only.
    """

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def sample(self, rng: np.random.Generator) -> float:
        """Draws a value, uniformly or uniformly in the logarithm."""
        low, high = self.low, self.high + (1 if self.integer else 0)
        if self.log:
            value = math.exp(rng.uniform(math.log(low), math.log(high)))
        else:
            value = rng.uniform(low, high)
        # Rounding, in exp or down to a whole number, must not leave the range.
        value = min(max(value, self.low), self.high)
        return math.floor(value) if self.integer else value


Space = dict[str, Range]


@dataclasses.dataclass(frozen=True)
class Plan:
    """A search.

    Attributes:
      space: the ranges of the first round, by the hyperparameter's name.
      rounds: b, how often configurations are sampled.
      samples: n, the configurations of a round, at least 2.
      keep: x, the part of all configurations that spans the next round's ranges, in
        (0, 1).
      seed: decides the configurations; not negative.
    """

    space: Space
    rounds: int
    samples: int
    keep: float
    seed: int = 0

    @property
    def trials(self) -> int:
        """The number of configurations in all."""
        return self.rounds * self.samples


@dataclasses.dataclass(frozen=True)
class Result:
    """One configuration and what it came to.

    Attributes:
      slot: which of the search's configurations, from 0, in the order of rounds.
      values: the hyperparameters by name; `STEPS` is among them.
      score: mean IoU over tasks after these steps; the higher the better.
      curve: the score after 0, 1, 2, ... steps, to where early stopping ended.
    """

    slot: int
    values: dict[str, float]
    score: float
    curve: tuple[float, ...] = ()


def parse_range(
    name: str,
    text: str,
    *,
    least: float,
    most: float = math.inf,
    log: bool = False,
    integer: bool = False,
) -> Range:
    """Reads a range, "low,high", and checks it.

    Args:
      name: of the setting, for messages.
      text: two numbers.
      least: smallest allowed; must itself be exceeded where `log` is true and it is 0.
      most: largest allowed.
      log: see `Range`.
      integer: see `Range`.

    Raises:
      UserError: not two numbers, not in order, or outside what is allowed.
    """
    kind = "whole numbers" if integer else "numbers"
    try:
        low, high = (int(t) if integer else float(t) for t in text.split(","))
    except ValueError as error:
        raise UserError(
            f"`{name}` must be two {kind} joined by a comma, the smaller first, such "
            f"as {'2,8' if integer else '0.1,0.4'}; received {text!r}"
        ) from error
    if not low < high:
        advice = f"give {high:g},{low:g}" if high < low else "widen it"
        raise UserError(
            f"`{name}`: expected two different {kind}, the smaller first, received "
            f"{text!r}; {advice}, or leave it out to keep the default"
        )
    positive = log and least == 0
    if low < least or high > most or (positive and low <= 0) or math.isinf(high):
        expected = "positive numbers" if positive else f"{kind} from {least:g}"
        if most < math.inf:
            expected += f" to {most:g}"
        raise UserError(f"`{name}`: expected {expected}, received {text!r}")
    return Range(low, high, log, integer)


def sample(space: Space, seed: Sequence[int]) -> dict[str, float]:
    """Draws a configuration, but for its steps, as `seed` and the ranges decide it."""
    rng = np.random.default_rng(list(seed))
    return {name: space[name].sample(rng) for name in sorted(space) if name != STEPS}


def ranking(results: Sequence[Result]) -> list[Result]:
    """Orders results from the best; of equals the earliest first."""
    return sorted(results, key=lambda result: (-result.score, result.slot))


def refine_search_space(space: Space, results: Sequence[Result], keep: float) -> Space:
    """Narrows each range to what the best configurations span (algorithm 2).

    Args:
      space: the ranges, that of `STEPS` too.
      results: all configurations seen so far.
      keep: x, the part of them that is best, in (0, 1); two at the least.
    """
    count = max(2, math.ceil(keep * len(results)))
    best = ranking(results)[:count]
    return {
        name: dataclasses.replace(
            bounds,
            low=min(result.values[name] for result in best),
            high=max(result.values[name] for result in best),
        )
        for name, bounds in space.items()
    }


def space_of_slot(plan: Plan, results: Sequence[Result], slot: int) -> Space:
    """Returns the ranges of a configuration: those of its round.

    Args:
      plan: the search.
      results: those of the rounds before, at least; later ones change nothing.
      slot: which configuration, from 0.

    Raises:
      ValueError: a round before is not finished.
    """
    first = slot - slot % plan.samples
    before = [result for result in results if result.slot < first]
    if len(before) != first:
        raise ValueError(
            f"configuration {slot} follows {first} others, received {len(before)}"
        )
    if not before:
        return plan.space
    return refine_search_space(plan.space, before, plan.keep)
