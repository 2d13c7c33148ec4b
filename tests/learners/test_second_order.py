"""MAML and Meta-SGD: the contract, and proof that their meta-gradients are exact."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.config import LearnerConfig
from efficientlab_tf.data.augment import Augmenter
from efficientlab_tf.episode import Episode
from efficientlab_tf.graphs import graph
from efficientlab_tf.learners import Learner, build_learner
from efficientlab_tf.models import build_model
from efficientlab_tf.segmenters.inner_loop import sgd
from efficientlab_tf.segmenters.network import Network, Weights
from tests.learners.contract import LearnerContract, episodes
from tests.models.tiny import tiny_network

SEED = tf.constant([3, 5])


class TestMAML(LearnerContract):
    name = "maml"
    # FOMAML's displacement is alpha = 0.1 times as long.
    changes = {
        "inner_steps": 2,
        "meta_learning_rate": 0.1,
        "meta_learning_rate_final": 0.1,
    }


class TestMetaSGD(TestMAML):
    name = "meta_sgd"


def _learner(name: str, steps: int, model=None, **changes) -> Learner:
    keras.utils.set_random_seed(1)
    config = LearnerConfig(
        **{
            "learner": name,
            "inner_learning_rate": 0.05,
            "inner_steps": steps,
            "inner_batch": 2,
            "loss": "bce_dice",
            "l2": 1e-2,
        }
        | changes
    )
    return build_learner(
        Network(model or tiny_network(16, dtype="float64", dropout=0.3)),
        config,
        meta_steps=10,
        augment=Augmenter(0.5),
    )


def _task(size: int = 16) -> Episode:
    batch = episodes(1, shots=3, queries=2, size=size)
    return Episode(*(field[0] for field in batch[:4]), name=None)


def _query_loss(learner: Learner, weights: Weights, task: Episode) -> tf.Tensor:
    """The meta-objective, by the inner loop that evaluation uses."""
    adapted, *_ = learner.inner.adapt(
        weights.theta,
        weights.statistics,
        task.support_images,
        task.support_masks,
        steps=learner.config.inner_steps,
        learning_rate=learner.rates(weights),
        seed=SEED,
    )
    # MAML draws the query's dropout masks from the seed folded with 1.
    seed = tf.random.experimental.stateless_fold_in(SEED, 1)
    query = task.query_images, task.query_masks, seed
    return learner.inner.gradient(*adapted[:2], *query).loss


def _uneven_rates(weights: Weights) -> Weights:
    """Rates as they are after some training: all different, some negative."""
    random = np.random.default_rng(2)
    return weights._replace(
        rates=tuple(
            r * tf.constant(random.uniform(-0.2, 2.0, r.shape)) for r in weights.rates
        )
    )


def finite_difference_errors(
    learner: Learner,
    task: Episode,
    *,
    step: float = 1e-6,
    directions: int = 2,
    objective=_query_loss,
) -> dict[str, float]:
    """The worst relative errors of the meta-gradient along random unit vectors.

    Not compiled: to trace a deep network takes a minute, to run it a few times seconds.
    (That a graph gives the same is a part of the contract.)
    """
    weights = _uneven_rates(learner.initial_weights())
    update = learner.task_update(weights, task, SEED)
    random = np.random.default_rng(0)
    errors = {}
    for field, displacement in (
        ("theta", update.displacement),
        ("rates", update.rates),
    ):
        at = getattr(weights, field)
        for _ in range(directions if at else 0):
            way = [random.normal(size=t.shape) for t in at]
            way = [w / np.sqrt(sum(np.sum(w**2) for w in way)) for w in way]
            ahead, behind = (
                objective(
                    learner,
                    weights._replace(
                        **{
                            field: tuple(
                                t + sign * step * w
                                for t, w in zip(at, way, strict=True)
                            )
                        }
                    ),
                    task,
                )
                for sign in (1, -1)
            )
            truth = float(ahead - behind) / (2 * step)
            ours = -sum(
                float(tf.reduce_sum(d * w))
                for d, w in zip(displacement, way, strict=True)
            )
            # A direction may be all but orthogonal to the gradient: then its slope is
            # nothing but rounding, and the usual slope is what counts.
            count = sum(t.shape.num_elements() for t in displacement)
            usual = float(tf.linalg.global_norm(displacement)) / np.sqrt(count)
            error = abs(ours - truth) / max(abs(truth), usual)
            errors[field] = max(errors.get(field, 0.0), error)
    return errors


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("name", ["maml", "meta_sgd"])
def test_meta_gradient_equals_finite_differences(name, steps):
    learner = _learner(name, steps)
    errors = finite_difference_errors(learner, _task())
    assert set(errors) == ({"theta", "rates"} if name == "meta_sgd" else {"theta"})
    assert max(errors.values()) < 1e-4


def test_meta_gradient_of_efficientlab():
    model = build_model(
        "efficientlab",
        image_size=32,
        # Not Lite0: ReLU6 has corners, and three steps of so deep a network multiply
        # what lies on the other side of one.
        backbone="EfficientNetB0",
        final_dropout=0.2,
        drop_connect=0.2,
        dtype="float64",
    )
    learner = _learner("maml", 2, model, inner_learning_rate=1e-4)
    errors = finite_difference_errors(learner, _task(32), step=1e-7, directions=1)
    assert max(errors.values()) < 1e-4


def test_meta_gradient_of_meta_drn():
    model = build_model("meta_drn", image_size=16, width=0.05, dtype="float64")
    learner = _learner("maml", 3, model, inner_learning_rate=0.01)
    # Leaky ReLU has a corner too.
    errors = finite_difference_errors(learner, _task(), step=1e-7)
    assert max(errors.values()) < 1e-4


@pytest.mark.parametrize("name", ["maml", "meta_sgd"])
def test_meta_gradient_when_only_the_decoder_is_adapted(name):
    learner = _learner(name, 2, adapt="decoder")
    errors = finite_difference_errors(learner, _task())
    assert max(errors.values()) < 1e-4
    weights = learner.initial_weights()
    adapted, *_ = learner.inner.adapt(
        weights.theta,
        weights.statistics,
        *_task()[:2],
        steps=2,
        learning_rate=0.05,
        seed=SEED,
    )
    moved = [
        bool(np.any(a != t)) for a, t in zip(adapted.theta, weights.theta, strict=True)
    ]
    # stem and dwconv with their normalization, then decoder and logits.
    assert moved == [False] * 6 + [True] * 6
    gradient = learner.task_update(weights, _task(), SEED).displacement
    assert all(np.any(g != 0) for g in gradient)


def _every_query_loss(learner: Learner, weights: Weights, task: Episode) -> tf.Tensor:
    """The mean of the query loss after each of the inner steps, one after the other."""
    steps = learner.config.inner_steps
    rates = learner.rates(weights)
    support = task.support_images, task.support_masks
    batch = learner.inner.batches(*support, steps=steps, seed=SEED)
    query = task.query_images, task.query_masks
    query_seed = tf.random.experimental.stateless_fold_in(SEED, 1)
    theta, statistics, losses = weights.theta, weights.statistics, []
    for k in range(steps):
        step = learner.inner.gradient(theta, statistics, *batch(tf.constant(k)))
        theta = sgd(theta, rates, step.gradient)
        losses.append(
            learner.inner.gradient(theta, statistics, *query, query_seed).loss
        )
    return tf.add_n(losses) / steps


@pytest.mark.parametrize("adapt", ["all", "decoder"])
def test_meta_gradient_of_rates_for_each_layer_and_step(adapt):
    learner = _learner("maml", 3, inner_rates="per_step", adapt=adapt)
    weights = learner.initial_weights()
    assert all(
        r.shape == (3,) + (1,) * t.shape.rank and np.all(r == 0.05)
        for r, t in zip(weights.rates, weights.theta, strict=True)
    )
    errors = finite_difference_errors(learner, _task())
    assert set(errors) == {"theta", "rates"} and max(errors.values()) < 1e-4


def test_rates_of_steps_stay_at_the_last_one():
    learner = _learner("maml", 2, inner_rates="per_step")
    weights = learner.initial_weights()
    rates = tuple(
        tf.concat([0.05 * tf.ones_like(r[:1]), tf.zeros_like(r[1:])], 0)
        for r in weights.rates
    )
    after = []
    for steps in (1, 4):
        adapted, *_ = learner.inner.adapt(
            *weights[:2],
            *_task()[:2],
            steps=steps,
            learning_rate=learner.inner.rates(rates),
            seed=SEED,
        )
        after.append(adapted.theta)
    for one, four in zip(*after, strict=True):
        np.testing.assert_array_equal(one, four)


@pytest.mark.parametrize("name", ["maml", "meta_sgd"])
def test_meta_gradient_of_the_multi_step_loss(name):
    # At meta-step 0 all weights are equal.
    learner = _learner(name, 3, multi_step_until=10)
    errors = finite_difference_errors(learner, _task(), objective=_every_query_loss)
    assert max(errors.values()) < 1e-4


def test_multi_step_loss_ends_at_its_meta_step():
    several = _learner("maml", 2, multi_step_until=10)
    weights, task = several.initial_weights(), _task()
    one = _learner("maml", 2).task_update(weights, task, SEED).displacement
    start, middle, end = (
        several.task_update(weights, task, SEED, tf.constant(step)).displacement
        for step in (0, 5, 10)
    )
    for s, m, e, o in zip(start, middle, end, one, strict=True):
        np.testing.assert_allclose(e, o, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(m, (s + e) / 2, rtol=1e-9, atol=1e-12)
    assert any(np.abs(s - e).max() > 1e-3 for s, e in zip(start, end, strict=True))


@pytest.mark.parametrize("name", ["maml", "meta_sgd"])
def test_meta_gradient_equals_that_of_an_unrolled_tape(name):
    learner = _learner(name, 3)
    task = _task()
    weights = _uneven_rates(learner.initial_weights())
    update = learner.task_update(weights, task, SEED)
    batch = learner.inner.batches(
        task.support_images, task.support_masks, steps=3, seed=SEED
    )
    with tf.GradientTape() as tape:
        tape.watch([weights.theta, weights.rates])
        theta = weights.theta
        for k in range(3):
            step = learner.inner.gradient(
                theta, weights.statistics, *batch(tf.constant(k))
            )
            theta = sgd(theta, learner.rates(weights), step.gradient)
        loss = learner.inner.gradient(
            theta,
            weights.statistics,
            task.query_images,
            task.query_masks,
            tf.random.experimental.stateless_fold_in(SEED, 1),
        ).loss
    unrolled = tape.gradient(loss, [weights.theta, weights.rates])
    for ours, theirs in zip((update.displacement, update.rates), unrolled, strict=True):
        difference = [a + b for a, b in zip(ours, theirs, strict=True)]
        if theirs:
            error = tf.linalg.global_norm(difference) / tf.linalg.global_norm(theirs)
            assert float(error) < 1e-6


@pytest.mark.parametrize("name", ["maml", "meta_sgd"])
def test_graph_does_not_grow_with_the_inner_loop(name):
    batch = Episode(*(field[None] for field in _task()[:4]), name=None)
    sizes = []
    for steps in (1, 10):
        learner = _learner(name, steps)
        traced = graph(learner.displacement).get_concrete_function(
            learner.init(), batch, tf.constant(0)
        )
        nodes = traced.graph.as_graph_def()
        sizes.append(
            len(nodes.node) + sum(len(f.node_def) for f in nodes.library.function)
        )
    assert sizes[0] == sizes[1]


def test_first_order_is_fomaml():
    # FOMAML's displacement is -alpha times the gradient, its K counts the tail.
    fomaml = _learner("fomaml", 4)
    task = _task()
    weights = fomaml.initial_weights()
    expected = fomaml.task_update(weights, task, SEED).displacement
    first, second = (
        _learner("maml", 3, first_order=flag).task_update(weights, task, SEED)
        for flag in (True, False)
    )
    for e, f in zip(expected, first.displacement, strict=True):
        np.testing.assert_allclose(f, e / 0.05, rtol=1e-9, atol=1e-12)
    assert any(
        np.abs(f - s).max() > 1e-3
        for f, s in zip(first.displacement, second.displacement, strict=True)
    )


@pytest.mark.parametrize(("name", "traced"), [("maml", True), ("meta_sgd", False)])
def test_second_derivatives_come_in_at_their_meta_step(name, traced):
    annealed = _learner(name, 2, second_order_from=5)
    state = annealed.init()
    batch = Episode(*(field[None] for field in _task()[:4]), name=None)
    displacement = graph(annealed.displacement) if traced else annealed.displacement
    for step, first_order in ((4, True), (5, False)):
        step = tf.constant(step)
        ours = displacement(state, batch, step)
        other = _learner(name, 2, first_order=first_order)
        theirs = other.displacement(state, batch, step)
        for a, b in zip(
            ours.displacement + ours.rates,
            theirs.displacement + theirs.rates,
            strict=True,
        ):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_statistics_that_enter_the_inner_loop_change_no_gradient():
    learner = _learner("maml", 2)
    task = _task()
    weights = learner.initial_weights()
    other = weights._replace(statistics=tuple(s + 3.0 for s in weights.statistics))
    update = learner.task_update(weights, task, SEED).displacement
    for a, b in zip(
        update, learner.task_update(other, task, SEED).displacement, strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("optimizer", ["interpolate", "adam"])
@pytest.mark.parametrize("name", ["meta_sgd", "maml"])
def test_rates_are_learned(name, optimizer):
    learner = _learner(
        name,
        2,
        meta_optimizer=optimizer,
        meta_learning_rate=0.01,
        inner_rates="per_step" if name == "maml" else "fixed",
    )
    state = learner.init()
    assert all(np.all(r == 0.05) for r in state.rates)
    batch = Episode(*(field[None] for field in _task()[:4]), name=None)
    moved, _ = learner.meta_step(state, batch, tf.constant(0))
    assert len(moved.rates) == len(moved.theta)
    assert any(np.any(a != b) for a, b in zip(moved.rates, state.rates, strict=True))
    if optimizer == "interpolate":
        update = learner.displacement(state, batch, tf.constant(0))
        for new, old, d in zip(moved.rates, state.rates, update.rates, strict=True):
            np.testing.assert_allclose(new, old + 0.01 * d, atol=1e-9)
