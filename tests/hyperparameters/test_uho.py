"""Algorithms 1 and 2 on objectives that can be written down."""

import math

import numpy as np
import pytest

from efficientlab_tf.errors import UserError
from efficientlab_tf.hyperparameters.uho import (
    Plan,
    Range,
    Result,
    parse_range,
    ranking,
    refine_search_space,
    sample,
    space_of_slot,
)

SPACE = {
    "inner_learning_rate": Range(1e-4, 1.0, log=True),
    "inner_batch": Range(1, 8, log=True, integer=True),
    "augment_rate": Range(0.0, 1.0),
    "inner_steps": Range(1, 50, integer=True),
}


def _results(scores, **values):
    return [
        Result(slot, {name: v[slot] for name, v in values.items()}, score)
        for slot, score in enumerate(scores)
    ]


def test_refinement_spans_the_best_part_and_nothing_else():
    # Algorithm 2 by hand: the best 30% of ten are slots 3, 7 and 1.
    scores = [0, 7, 1, 9, 2, 3, 4, 8, 5, 6]
    rates = [0.001, 0.2, 0.9, 0.05, 0.8, 0.7, 0.002, 0.01, 0.6, 0.5]
    steps = [1, 9, 50, 6, 2, 3, 4, 20, 5, 7]
    space = {name: SPACE[name] for name in ("inner_learning_rate", "inner_steps")}
    refined = refine_search_space(
        space, _results(scores, inner_learning_rate=rates, inner_steps=steps), 0.3
    )
    assert refined == {
        "inner_learning_rate": Range(0.01, 0.2, log=True),
        "inner_steps": Range(6, 20, integer=True),
    }


def test_refinement_keeps_two_or_there_would_be_nothing_to_search():
    results = _results([1, 3, 2], inner_steps=[4, 8, 6])
    space = {"inner_steps": SPACE["inner_steps"]}
    refined = refine_search_space(space, results, keep=0.01)
    assert refined["inner_steps"] == Range(6, 8, integer=True)


def test_ranking_puts_the_earliest_of_equals_first():
    order = ranking(_results([0.5, 0.1, 0.7, 0.7], x=[0, 0, 0, 0]))
    assert [result.slot for result in order] == [2, 3, 0, 1]


def test_samples_are_in_range_and_a_function_of_the_seed():
    draws = [sample(SPACE, (5, i)) for i in range(2000)]
    assert draws == [sample(SPACE, (5, i)) for i in range(2000)]
    assert draws != [sample(SPACE, (6, i)) for i in range(2000)]
    assert all("inner_steps" not in draw for draw in draws)
    for name in ("inner_learning_rate", "inner_batch", "augment_rate"):
        values = np.array([draw[name] for draw in draws])
        assert values.min() >= SPACE[name].low and values.max() <= SPACE[name].high
    logs = np.log10([draw["inner_learning_rate"] for draw in draws])
    # Uniform in the logarithm: as many in each of the four decades.
    np.testing.assert_allclose(
        np.histogram(logs, bins=4, range=(-4, 0))[0] / len(logs), 0.25, atol=0.04
    )
    batches = [draw["inner_batch"] for draw in draws]
    assert all(isinstance(batch, int) for batch in batches)
    assert set(batches) == set(range(1, 9))


def test_a_range_of_one_value_gives_that_value():
    point = {"x": Range(3, 3, log=True, integer=True), "y": Range(0.3, 0.3, log=True)}
    assert sample(point, (0,)) == {"x": 3, "y": 0.3}


def _score(rate: float) -> tuple[float, int]:
    """A hill over log rate with its top at 0.01; fewer steps for higher rates."""
    distance = math.log10(rate) + 2
    steps = min(50, max(1, round(8 * 10 ** (-0.5 * distance))))
    return math.exp(-(distance**2)), steps


def _plan(rounds: int, samples: int, keep: float, seed: int = 0) -> Plan:
    space = {name: SPACE[name] for name in ("inner_learning_rate", "inner_steps")}
    return Plan(space, rounds, samples, keep, seed)


def _search(plan: Plan):
    results, spaces = [], []
    for slot in range(plan.trials):
        spaces.append(space_of_slot(plan, results, slot))
        values = sample(spaces[-1], (plan.seed, slot))
        score, steps = _score(values["inner_learning_rate"])
        results.append(Result(slot, {**values, "inner_steps": steps}, score))
    return results, spaces[:: plan.samples]


def test_the_search_closes_in_on_the_optimum_and_refining_helps():
    def distances(rounds: int, samples: int) -> list[float]:
        return [
            abs(math.log10(best.values["inner_learning_rate"]) + 2)
            for seed in range(60)
            for best in [ranking(_search(_plan(rounds, samples, 0.25, seed))[0])[0]]
        ]

    # As many configurations; in a round of few one may refine away from the optimum.
    refined, at_once = distances(2, 16), distances(1, 32)
    assert np.median(refined) < 0.5 * np.median(at_once)
    assert np.mean(np.array(refined) < 0.1) > 0.8


@pytest.mark.parametrize("seed", range(5))
def test_the_ranges_shrink_round_by_round(seed):
    results, spaces = _search(_plan(3, 16, 0.25, seed))
    best = ranking(results)[0].values
    for name in ("inner_learning_rate", "inner_steps"):
        widths = [space[name].high / space[name].low for space in spaces]
        assert widths[0] == SPACE[name].high / SPACE[name].low
        assert widths[2] < widths[1] < widths[0]
        assert spaces[2][name].low <= best[name] <= spaces[2][name].high
    # What a round samples lies in its ranges.
    for number, space in enumerate(spaces):
        bounds = space["inner_learning_rate"]
        for result in results[16 * number : 16 * (number + 1)]:
            assert bounds.low <= result.values["inner_learning_rate"] <= bounds.high


def test_a_round_needs_the_rounds_before_it():
    plan = _plan(2, 4, 0.5)
    results, spaces = _search(plan)
    # Later rounds, and the order of the results, change nothing.
    for slot in range(4, 8):
        assert space_of_slot(plan, results[::-1], slot) == spaces[1]
    with pytest.raises(ValueError, match="configuration 5 follows 4 others, rec.* 3"):
        space_of_slot(plan, results[:3], 5)


def test_ranges_are_read():
    assert parse_range("r", "1e-3,0.5", least=0, log=True) == Range(1e-3, 0.5, True)
    assert parse_range("r", " 2, 8", least=1, integer=True) == Range(2, 8, False, True)
    assert parse_range("r", "0,1", least=0, most=1) == Range(0.0, 1.0)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("0.1", {"least": 0}, "two numbers joined by a comma"),
        ("a,b", {"least": 0}, "two numbers joined by a comma"),
        ("1.5,3", {"least": 1, "integer": True}, "two whole numbers joined"),
        ("0.5,0.1", {"least": 0}, "received '0.5,0.1'; give 0.1,0.5"),
        ("0.5,0.5", {"least": 0}, "two different numbers.*widen it"),
        ("0,0.5", {"least": 0, "log": True}, "expected positive numbers"),
        ("-1,0.5", {"least": 0, "log": True}, "expected positive numbers"),
        ("0.5,1.5", {"least": 0, "most": 1}, "expected numbers from 0 to 1"),
        ("0.5,inf", {"least": 0, "log": True}, "expected positive numbers"),
        ("nan,1", {"least": 0}, "two different numbers"),
        ("0,4", {"least": 1, "log": True, "integer": True}, "whole numbers from 1"),
    ],
)
def test_bad_ranges_are_refused(text, options, message):
    with pytest.raises(UserError, match=f"`some_range`.*{message}"):
        parse_range("some_range", text, **options)
