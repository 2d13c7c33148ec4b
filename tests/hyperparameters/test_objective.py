"""The score of a configuration, on a network of a few thousand parameters."""

import dataclasses

import numpy as np
import pytest

from efficientlab_tf.checkpoint.run import RunConfig, build_inner_loop
from efficientlab_tf.config import LearnerConfig, ModelConfig
from efficientlab_tf.data.episodes import fixed_episodes
from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.errors import UserError
from efficientlab_tf.evaluation.meta_test import evaluate
from efficientlab_tf.hyperparameters.objective import (
    Objective,
    choose_tasks,
    load_tasks,
)
from efficientlab_tf.hyperparameters.uho import BATCH, DROPOUT, FACTOR, RATE, Range
from efficientlab_tf.metrics import TaskResult
from efficientlab_tf.segmenters.gradient import AdaptFunctions
from efficientlab_tf.segmenters.network import Network
from tests.models.tiny import tiny_network

RUN = RunConfig(
    model=ModelConfig(image_size=32),
    learner=LearnerConfig(inner_learning_rate=0.05, inner_batch=2, augment_rate=0.3),
)
SHOTS, SEED = 3, 7


@pytest.fixture(scope="module")
def network():
    import keras

    keras.utils.set_random_seed(0)
    return Network(tiny_network(32, dropout=0.2))


@pytest.fixture(scope="module")
def draws():
    return dict.fromkeys(Manifest.load("sample:icons").split("test")[:4], 1)


@pytest.fixture(scope="module")
def tasks(draws):
    return load_tasks(
        Manifest.load("sample:icons"),
        draws,
        shots=SHOTS,
        queries=None,
        seed=SEED,
        image_size=(32, 32),
    )


@pytest.fixture(scope="module")
def objective(network, tasks):
    return Objective(network, network.weights(), RUN, tasks, "support")


STEPS = Range(1, 12, integer=True)


@pytest.fixture(scope="module")
def stop(objective):
    return objective({RATE: 0.2}, STEPS, patience=3)


@pytest.fixture(scope="module")
def segmenter(network):
    """Says the same by the way that `evaluate` takes, for any number of steps."""
    functions = AdaptFunctions(build_inner_loop(RUN.learner, network))

    def of(steps: int):
        return functions.segmenter(
            network.weights(), learning_rate=0.2, steps=steps, batch_norm="support"
        )

    return of


def test_the_score_is_what_evaluate_says_at_that_number_of_steps(
    segmenter, draws, stop
):
    episodes = fixed_episodes(
        "sample:icons", tuple(draws), shots=SHOTS, seed=SEED, image_size=32
    )
    results = evaluate(segmenter(stop.steps), episodes, seed=SEED)
    assert STEPS.low <= stop.steps < len(stop.scores)
    assert stop.score == stop.scores[stop.steps]
    assert stop.score == pytest.approx(np.mean([r.iou for r in results]), abs=1e-4)


def test_one_number_of_steps_serves_all_tasks(segmenter, tasks, stop):
    curves = [
        [
            TaskResult.of(
                "", 0, task.query_masks, adapted.predict(task.query_images)
            ).iou
            for adapted in segmenter(len(stop.scores) - 1).walk(
                task.support_images, task.support_masks, seed=task.seed
            )
        ]
        for task in tasks
    ]
    np.testing.assert_allclose(stop.scores, np.mean(curves, axis=0), atol=1e-4)
    assert stop.score == max(stop.scores[1:])
    # Each task stopped at its own best would have scored better than any one j does.
    assert np.mean([max(curve[1:]) for curve in curves]) > stop.score + 1e-3


def test_steps_are_kept_in_their_range(objective):
    seen = []
    stop = objective(
        {RATE: 0.2},
        Range(4, 5, integer=True),
        patience=1,
        on_step=lambda steps, score: seen.append((steps, score)),
    )
    assert stop.steps in (4, 5)
    assert seen == list(enumerate(stop.scores))
    assert len(seen) <= 6


def test_a_configuration_changes_what_it_says_and_nothing_else(objective, stop):
    fixed = Range(2, 2, integer=True)
    base = objective({RATE: 0.2}, fixed, patience=3).scores
    np.testing.assert_allclose(base, stop.scores[:3], atol=1e-5)
    own = {"augment_rate": 0.3, BATCH: 2, DROPOUT: 0.2}
    for name, value in (("augment_rate", 0.0), (BATCH, 3), (DROPOUT, 0.9)):
        other = objective({RATE: 0.2, **own, name: value}, fixed, patience=3).scores
        assert other[0] == pytest.approx(base[0], abs=1e-5)
        assert other[2] != pytest.approx(base[2], abs=1e-5), name
    again = objective({RATE: 0.2, **own}, fixed, patience=3).scores
    np.testing.assert_allclose(again, base, atol=1e-5)


def test_a_factor_scales_learned_rates(network, tasks, objective):
    weights = network.weights()
    rates = tuple(np.full(t.shape, 0.1, np.float32) for t in weights.theta)
    learned = Objective(network, weights._replace(rates=rates), RUN, tasks, "support")
    steps = Range(2, 2, integer=True)
    np.testing.assert_allclose(
        learned({FACTOR: 2.0}, steps, patience=3).scores,
        objective({RATE: 0.2}, steps, patience=3).scores,
        atol=1e-5,
    )


def test_tuning_dropout_needs_one(tasks):
    network = Network(tiny_network(32))
    objective = Objective(network, network.weights(), RUN, tasks, "running")
    with pytest.raises(UserError, match="no final dropout.*leave .*dropout_range"):
        objective({DROPOUT: 0.5}, Range(1, 1), patience=1)


def test_tasks_are_spread_over_the_classes():
    names = [f"class_{i}" for i in range(10)]
    few = choose_tasks(names, 4, seed=0)
    assert len(few) == 4 and set(few) < set(names) and set(few.values()) == {1}
    assert choose_tasks(names[::-1], 4, seed=0) == few
    assert choose_tasks(names, 4, seed=1) != few
    many = choose_tasks(names, 23, seed=0)
    assert len(many) == 10 and sorted(many.values()) == [2] * 7 + [3] * 3
    assert set(choose_tasks(names, 10, seed=0).values()) == {1}


def test_tasks_hold_as_many_draws_as_were_chosen(draws):
    first, second, *_ = draws
    load = dict(shots=SHOTS, queries=2, seed=SEED, image_size=(32, 32))
    tasks = load_tasks(Manifest.load("sample:icons"), {first: 2, second: 1}, **load)
    assert len(tasks) == len({task.seed for task in tasks}) == 3
    for task in tasks:
        assert task.support_images.shape == (SHOTS, 32, 32, 3)
        assert task.query_masks.shape == (2, 32, 32)
        assert all(
            getattr(task, field.name).dtype == np.uint8
            for field in dataclasses.fields(task)
            if field.name != "seed"
        )
    assert not np.array_equal(tasks[0].support_images, tasks[1].support_images)


def test_too_many_shots_are_refused(draws):
    manifest = Manifest.load("sample:icons")
    with pytest.raises(UserError, match="`shots` \\+ `queries` = 99 \\+ 1"):
        load_tasks(manifest, draws, shots=99, queries=None, seed=0, image_size=(32, 32))


def test_a_configuration_that_diverges_scores_nothing_from_there_on(objective):
    scores = []
    stop = objective(
        {RATE: 1e30},
        Range(1, 4),
        patience=3,
        on_step=lambda step, score: scores.append(score),
    )
    assert scores[0] > 0 and scores[2:] == [0.0] * len(scores[2:])
    assert stop.steps == 1
