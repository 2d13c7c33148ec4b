"""FOMAML and Reptile: the contract, and what each of them is by definition."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.config import LearnerConfig
from efficientlab_tf.episode import Episode
from efficientlab_tf.errors import UserError
from efficientlab_tf.graphs import graph
from efficientlab_tf.learners import MAML, MAMLPlusPlus, build_learner
from efficientlab_tf.learners.meta_optimizer import meta_optimizer
from efficientlab_tf.losses import cross_entropy
from efficientlab_tf.models import decoder_mask
from efficientlab_tf.segmenters.inner_loop import minibatch_indices
from efficientlab_tf.segmenters.network import Network
from tests.learners.contract import (
    CONFIG,
    SIZE,
    LearnerContract,
    assert_learns,
    episodes,
)
from tests.models.tiny import tiny_network


def _task(seed=0) -> Episode:
    return Episode(*(field[0] for field in episodes(1, seed)))


class TestFOMAML(LearnerContract):
    name = "fomaml"

    def test_direction_is_the_plain_gradient_at_the_adapted_weights(self):
        learner = self.learner(inner_batch=0)
        state, task = learner.init(), _task()
        seed = tf.constant([1, 2])
        update = learner.task_update(state.weights, task, seed)
        # By hand, eagerly, one variable-free step after the other.
        theta, statistics = state.theta, state.statistics
        rate = CONFIG.inner_learning_rate

        def gradient(theta, statistics, images, masks):
            with tf.GradientTape() as tape:
                tape.watch(theta)
                logits, statistics = learner.network(
                    theta, statistics, images, training=True, seed=seed
                )
                loss, _ = learner.inner.objective(
                    logits, masks, theta, learner.network.decayed
                )
            return tape.gradient(loss, theta), statistics

        for _ in range(CONFIG.inner_steps - 1):
            g, statistics = gradient(
                theta, statistics, task.support_images, task.support_masks
            )
            theta = tuple(t - rate * x for t, x in zip(theta, g, strict=True))
        g, _ = gradient(theta, statistics, task.query_images, task.query_masks)
        for displacement, x in zip(update.displacement, g, strict=True):
            np.testing.assert_allclose(displacement, -rate * x, atol=1e-5)

    @pytest.mark.learned
    def test_keras_meta_optimizer_improves_too(self):
        learner = self.learner(
            meta_optimizer="adam",
            meta_learning_rate=1e-2,
            meta_learning_rate_final=1e-3,
        )
        assert_learns(learner, steps=25)

    def test_needs_a_step_before_the_tail(self):
        with pytest.raises(UserError, match="`inner_steps` must be at least 2"):
            self.learner(inner_steps=1)


class TestReptile(LearnerContract):
    name = "reptile"

    def test_displacement_is_what_sgd_on_both_sets_did(self):
        learner = self.learner(inner_batch=0)
        state, task = learner.init(), _task()
        seed = tf.constant([1, 2])
        update = learner.task_update(state.weights, task, seed)
        images = tf.concat([task.support_images, task.query_images], 0)
        masks = tf.concat([task.support_masks, task.query_masks], 0)
        adapted, losses, _ = learner.inner.adapt(
            state.theta,
            state.statistics,
            images,
            masks,
            steps=CONFIG.inner_steps,
            learning_rate=CONFIG.inner_learning_rate,
            seed=seed,
        )
        assert losses.shape == (CONFIG.inner_steps,)
        assert float(losses[-1]) < 0.7 * float(losses[0])
        for d, new, old in zip(
            update.displacement, adapted.theta, state.theta, strict=True
        ):
            np.testing.assert_allclose(d, new - old, atol=1e-5)


def test_reptile_does_not_learn_what_it_does_not_adapt():
    config = dataclasses.replace(CONFIG, learner="reptile", adapt="decoder")
    with pytest.raises(UserError, match="`adapt` must be all for reptile"):
        build_learner(Network(tiny_network(SIZE)), config, meta_steps=10)


def test_minibatches_run_through_the_examples_epoch_by_epoch():
    stream = minibatch_indices(5, 8, 10, tf.constant([0, 1])).numpy().ravel()
    assert stream.shape == (80,)
    epochs = stream.reshape(16, 5)
    assert (np.sort(epochs, axis=1) == np.arange(5)).all()
    assert len({tuple(epoch) for epoch in epochs}) > 8


def test_more_steps_begin_with_the_same_minibatches():
    few, many = (
        minibatch_indices(5, 3, steps, tf.constant([0, 1])) for steps in (2, 9)
    )
    np.testing.assert_array_equal(many[:2], few)


def test_batch_zero_is_the_whole_support_set():
    batches = minibatch_indices(tf.constant(3), 0, tf.constant(4), tf.constant([0, 1]))
    assert (np.sort(batches, axis=1) == np.arange(3)).all()


def test_zero_steps_adapt_nothing():
    network = Network(tiny_network(SIZE))
    learner = build_learner(network, CONFIG, meta_steps=10)
    task = _task()
    weights, losses, _ = learner.inner.adapt(
        *network.weights()[:2],
        task.support_images,
        task.support_masks,
        steps=tf.constant(0),
        learning_rate=0.1,
        seed=tf.constant([0, 0]),
    )
    assert losses.shape == (0,)
    for new, old in zip(weights.theta, network.weights().theta, strict=True):
        np.testing.assert_array_equal(new, old)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inner_learning_rate": -1.0}, "`inner_learning_rate` must be above 0"),
        ({"inner_steps": 0}, "`inner_steps` must be at least 1"),
        ({"second_order_from": -1}, "`second_order_from` must be at least 0"),
        ({"multi_step_until": -1}, "`multi_step_until` must be at least 0"),
        ({"inner_batch": -1}, "`inner_batch` must be at least 0"),
        ({"augment_rate": 1.5}, "`augment_rate` must be at most 1"),
        ({"episode_augment_rate": -0.5}, "`episode_augment_rate` must be at least 0"),
        ({"halve_after": -1}, "`halve_after` must be at least 0"),
        ({"inner_rates": "per_step"}, "`inner_rates`=per_step needs `learner`=maml"),
        ({"l2": -0.1}, "`l2` must be at least 0"),
        ({"meta_learning_rate": -1.0}, "`meta_learning_rate` must be at least 0"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        LearnerConfig(**change)


@pytest.mark.parametrize(
    "change", [{"learner": "none"}, {"meta_optimizer": "gradient-descent"}]
)
def test_unknown_names_are_refused(change):
    network = Network(tiny_network(SIZE))
    with pytest.raises(UserError, match="received 'none'|received 'gradient-descent'"):
        build_learner(network, dataclasses.replace(CONFIG, **change), meta_steps=10)


@pytest.mark.parametrize(
    "option",
    [{"multi_step_until": 3}, {"second_order_from": 3}, {"inner_rates": "per_step"}],
)
def test_maml_with_an_option_of_maml_plus_plus_is_that_learner(option):
    network, config = Network(tiny_network(SIZE)), LearnerConfig(learner="maml")
    assert type(build_learner(network, config, meta_steps=10)) is MAML
    config = dataclasses.replace(config, **option)
    assert type(build_learner(network, config, meta_steps=10)) is MAMLPlusPlus


@pytest.mark.parametrize("name", ["fomaml", "reptile", "maml", "joint"])
def test_an_objective_takes_the_place_of_the_named_loss(name):
    network, batch = Network(tiny_network(SIZE)), episodes(1)._replace(name=None)
    named = dataclasses.replace(CONFIG, learner=name, loss="cross_entropy")
    other = dataclasses.replace(named, loss="bce_dice")
    losses, displacements = [], []
    for config, objective in ((named, None), (other, cross_entropy)):
        learner = build_learner(network, config, meta_steps=10, objective=objective)
        update = learner.displacement(learner.init(), batch, tf.constant(0))
        losses.append(float(update.metrics["loss"]))
        displacements.append(update.displacement)
    assert losses[0] == losses[1]
    for a, b in zip(*displacements, strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_objective_must_be_a_scalar():
    def per_pixel(logits, masks):
        return tf.nn.sparse_softmax_cross_entropy_with_logits(
            tf.cast(masks, tf.int32), logits
        )

    network = Network(tiny_network(SIZE))
    learner = build_learner(network, CONFIG, meta_steps=10, objective=per_pixel)
    with pytest.raises(UserError, match=r"must return a scalar.*\(4, 32, 32\)"):
        learner.meta_step(learner.init(), episodes(1), tf.constant(0))


def test_episodes_are_augmented_once_support_and_query_apart():
    seen = []

    def augment(images, masks, seed):
        seen.append(seed)
        return 255.0 - tf.cast(images, tf.float32), 1 - masks

    network, config = Network(tiny_network(SIZE)), CONFIG
    plain = build_learner(network, config, meta_steps=10)
    batch = episodes(2)._replace(name=None)
    changed = Episode(
        255.0 - tf.cast(batch.support_images, tf.float32),
        1 - batch.support_masks,
        255.0 - tf.cast(batch.query_images, tf.float32),
        1 - batch.query_masks,
        None,
    )
    state, step = plain.init(), tf.constant(0)
    expected = plain.displacement(state, changed, step).displacement
    learner = build_learner(network, config, meta_steps=10, augment_episodes=augment)
    update = graph(learner.displacement)(state, batch, step).displacement
    for e, u in zip(expected, update, strict=True):
        np.testing.assert_allclose(u, e, rtol=1e-3, atol=1e-5)
    # Traced once: one call for the support and one for the query, with other seeds.
    assert len(seen) == 2 and seen[0] is not seen[1]


def test_a_keras_meta_optimizer_leaves_the_model_alone():
    network = Network(tiny_network(SIZE))
    config = dataclasses.replace(CONFIG, meta_optimizer="adam")
    learner = build_learner(network, config, meta_steps=10)
    before = [v.numpy() for v in network.model.variables]
    state, _ = learner.meta_step(learner.init(), episodes(1), tf.constant(0))
    for variable, old in zip(network.model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), old)
    assert any(np.any(t != v) for t, v in zip(state.theta, before, strict=False))


def test_the_meta_learning_rate_follows_schedule_and_scale():
    for optimizer in ("interpolate", "sgd"):
        config = dataclasses.replace(
            CONFIG,
            learner="maml",
            inner_steps=1,
            meta_optimizer=optimizer,
            meta_learning_rate=0.4,
            meta_learning_rate_final=0.2,
        )
        learner = build_learner(Network(tiny_network(SIZE)), config, meta_steps=10)
        state = learner.init()._replace(rate_scale=tf.constant(0.5))
        batch, step = episodes(1)._replace(name=None), tf.constant(5)
        new, metrics = learner.meta_step(state, batch, step)
        assert float(metrics["meta_learning_rate"]) == pytest.approx(0.15)
        assert float(new.rate_scale) == 0.5
        way = learner.displacement(state, batch, step).displacement
        for n, o, d in zip(new.theta, state.theta, way, strict=True):
            np.testing.assert_allclose(n - o, 0.15 * d, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("optimizer", ["interpolate", "adam"])
def test_the_encoder_has_a_rate_of_its_own(optimizer):
    network, batch = Network(tiny_network(SIZE)), episodes(1)

    def steps(rate: float) -> list[np.ndarray]:
        config = dataclasses.replace(
            CONFIG, meta_optimizer=optimizer, encoder_rate=rate
        )
        learner = build_learner(network, config, meta_steps=10)
        old = learner.init()
        new, _ = learner.meta_step(old, batch, tf.constant(0))
        return [b - a for a, b in zip(old.theta, new.theta, strict=True)]

    for whole, tenth, decoder in zip(
        steps(1.0), steps(0.1), decoder_mask(network.model), strict=True
    ):
        assert np.any(whole)
        expected = whole if decoder else 0.1 * whole
        np.testing.assert_allclose(tenth, expected, rtol=1e-2, atol=1e-6)


def test_weight_decay_of_adamw_is_the_given_one():
    variables = [keras.Variable(np.float32([2.0, -4.0]))]
    theta = (tf.constant([2.0, -4.0]),)
    for decay in (0.0, 0.1):
        optimizer = meta_optimizer("adamw", variables, 1.0, weight_decay=decay)
        zero = (tf.zeros([2]),)
        (moved,), _ = optimizer.apply(theta, zero, optimizer.init(), tf.constant(0.5))
        np.testing.assert_allclose(moved, (1 - 0.5 * decay) * np.array(theta[0]))


def test_a_second_training_starts_with_the_first_slots():
    optimizer = meta_optimizer("adam", [keras.Variable(np.float32([2.0, -4.0]))], 1.0)
    theta, way = (tf.constant([2.0, -4.0]),), (tf.ones([2]),)
    steps = [optimizer.apply(theta, way, optimizer.init(), 0.5) for _ in range(2)]
    tf.nest.map_structure(np.testing.assert_array_equal, *steps)
    assert np.any(steps[0][1][-1] != optimizer.init()[-1])
