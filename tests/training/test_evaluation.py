"""Meta-testing: what a number may and may not depend on."""

import keras
import numpy as np
import pytest

from efficientlab_tf.data.augment import Augmenter
from efficientlab_tf.episode import Episode
from efficientlab_tf.errors import UserError
from efficientlab_tf.evaluation.meta_test import evaluate, sheet, task_seed
from efficientlab_tf.losses import Objective
from efficientlab_tf.metrics import Summary
from efficientlab_tf.segmenters.gradient import AdaptFunctions
from efficientlab_tf.segmenters.inner_loop import InnerLoop
from efficientlab_tf.segmenters.network import Network
from tests.learners.contract import SIZE, episodes
from tests.models.tiny import tiny_network


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(7)
    return Network(tiny_network(SIZE, dropout=0.3))


@pytest.fixture(scope="module")
def functions(network):
    inner = InnerLoop(network, Objective(), batch=2, augment=Augmenter(0.5))
    return AdaptFunctions(inner)


@pytest.fixture(scope="module")
def tasks():
    batch = episodes(4, queries=5)
    return [
        (Episode(*(np.asarray(field[i]) for field in batch)), f"class{i}", 0)
        for i in range(4)
    ]


def _segmenter(functions, network, batch_norm="running", steps=4):
    return functions.segmenter(
        network.weights(), learning_rate=0.1, steps=steps, batch_norm=batch_norm
    )


@pytest.mark.parametrize("batch_norm", ["running", "support", "query"])
def test_order_of_tasks_changes_nothing(functions, network, tasks, batch_norm):
    segmenter = _segmenter(functions, network, batch_norm)
    forward = evaluate(segmenter, tasks)
    backward = evaluate(segmenter, tasks[::-1])[::-1]
    for a, b in zip(forward, backward, strict=True):
        np.testing.assert_array_equal(a.counts, b.counts)
    assert Summary.of(forward) == Summary.of(backward[::-1])


def test_a_query_that_is_in_the_support_is_refused(functions, network, tasks):
    task, name, draw = tasks[0]
    images = task.query_images.copy()
    images[3] = task.support_images[1]
    overlapping = (task._replace(query_images=images), name, draw)
    with pytest.raises(UserError, match="task class0: .* query image 3 that is also"):
        evaluate(_segmenter(functions, network), [overlapping])


def test_a_task_is_judged_as_if_it_were_alone(functions, network, tasks):
    segmenter = _segmenter(functions, network)
    together = evaluate(segmenter, tasks)
    alone = evaluate(segmenter, tasks[2:3])
    np.testing.assert_array_equal(together[2].counts, alone[0].counts)


@pytest.mark.parametrize("batch_norm", ["running", "support"])
def test_predictions_do_not_depend_on_the_batch(functions, network, tasks, batch_norm):
    episode = tasks[0][0]
    adapted = _segmenter(functions, network, batch_norm).adapt(
        episode.support_images, episode.support_masks
    )
    whole = adapted.predict(episode.query_images, batch=5)
    for batch in (1, 2):
        parts = adapted.predict(episode.query_images, batch=batch)
        np.testing.assert_allclose(whole, parts, atol=1e-5)
    np.testing.assert_allclose(whole.sum(-1), 1, atol=1e-5)


def test_query_statistics_are_transductive(functions, network, tasks):
    episode = tasks[0][0]
    adapted = _segmenter(functions, network, "query").adapt(
        episode.support_images, episode.support_masks
    )
    together = adapted.predict(episode.query_images)
    alone = adapted.predict(episode.query_images[:1])
    assert np.abs(together[0] - alone[0]).max() > 1e-3


def test_support_statistics_are_those_of_the_support_set(functions, network, tasks):
    # On the support set itself they must give what batch statistics give.
    images = tasks[0][0].support_images
    masks = tasks[0][0].support_masks
    by_support = _segmenter(functions, network, "support").adapt(images, masks)
    by_batch = _segmenter(functions, network, "query").adapt(images, masks)
    np.testing.assert_allclose(
        by_support.predict(images), by_batch.predict(images), atol=1e-4
    )


@pytest.mark.learned
def test_adaptation_learns_and_leaves_the_initialization(functions, network, tasks):
    episode = tasks[0][0]
    before = [t.numpy().copy() for t in network.weights().theta]
    segmenter = _segmenter(functions, network, steps=20)
    adapted = segmenter.adapt(episode.support_images, episode.support_masks)
    assert np.mean(adapted.losses[-5:]) < 0.5 * np.mean(adapted.losses[:5])
    for old, now, own in zip(
        before, network.weights().theta, segmenter.weights.theta, strict=True
    ):
        np.testing.assert_array_equal(old, now)
        np.testing.assert_array_equal(old, own)


def test_task_seeds_are_stable_and_differ():
    # Written down: another value would change every published number.
    assert task_seed("bear", 0) == 769570708
    seeds = {task_seed(n, d, s) for n in ("a", "b") for d in (0, 1) for s in (0, 1)}
    assert len(seeds) == 8


def test_unknown_batch_norm_mode(functions, network):
    with pytest.raises(ValueError, match="received 'other'"):
        _segmenter(functions, network, "other")


def test_sheet_has_a_row_for_each_task(functions, network, tasks):
    rows = []
    evaluate(
        _segmenter(functions, network),
        tasks,
        on_task=lambda result, row: rows.append(row),
    )
    one, four = sheet(rows[:1]), sheet(rows)
    assert four.height > 3 * one.height and four.width == one.width
    assert rows[0][0].startswith("class0 ")
