"""Conditioned networks are trained without an inner loop."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.checkpoint.run import RunConfig, build_functions, build_network
from efficientlab_tf.config import DataConfig, ModelConfig, TrainConfig
from efficientlab_tf.data.mixture import Mixture
from efficientlab_tf.episode import Episode
from efficientlab_tf.errors import UserError
from efficientlab_tf.graphs import graph
from efficientlab_tf.losses import cross_entropy
from efficientlab_tf.models import build_model
from efficientlab_tf.segmenters.forward import ForwardFunctions
from efficientlab_tf.segmenters.network import Network
from efficientlab_tf.training import loop
from efficientlab_tf.training.loop import train
from tests.learners.contract import SIZE, episodes
from tests.learners.forward import (
    CONFIG,
    blue,
    frozen,
    learner_of,
    network,
    task,
    two_discs,
)
from tests.loading import load_model
from tests.models.tiny import tiny_network


def test_the_loss_is_that_of_the_query_given_the_support():
    net = network()
    learner = learner_of(net)
    episode = task(episodes(1))
    loss, metrics, _ = learner.loss(net.weights(), episode, tf.constant([1, 2]))
    inputs = {
        "support_images": episode.support_images,
        "support_masks": episode.support_masks,
        "query_images": episode.query_images,
    }
    logits = net.model({k: tf.cast(v, tf.float32) for k, v in inputs.items()})
    expected = cross_entropy(logits, episode.query_masks)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert metrics["loss"] == loss
    other = episode._replace(support_masks=1 - episode.support_masks)
    assert float(learner.loss(net.weights(), other, tf.constant([1, 2]))[0]) != loss


def test_an_episode_of_which_the_frozen_part_is_done_teaches_the_same():
    net = frozen()
    learner = learner_of(net)
    episode = task(episodes(1, size=64))
    prepared = learner.preparation()(tf.constant(0), episode)
    seed = tf.constant([1, 2])
    found = learner.task_update(net.weights(), prepared, seed)
    expected = learner.task_update(net.weights(), episode, seed)
    np.testing.assert_allclose(
        found.metrics["loss"], expected.metrics["loss"], rtol=1e-3
    )
    assert any(np.abs(d).max() > 1e-3 for d in expected.displacement)
    for a, b in zip(found.displacement, expected.displacement, strict=True):
        np.testing.assert_allclose(a, b, atol=0.02 * np.abs(b).max() + 1e-6)


def test_episodes_that_are_used_again_come_in_turn():
    config = RunConfig(
        DataConfig(dataset_dir="sample:icons", shots=1, queries=1, label_swap_rate=0.5),
        ModelConfig(image_size=64),
        dataclasses.replace(CONFIG, episode_augment_rate=0.5),
        TrainConfig(meta_batch=1, reuse_episodes=2),
    )
    mixture = Mixture.load("sample:icons")
    learner = learner_of(frozen())

    def drawn(first_step: int, count: int):
        batches = loop._episodes(config, mixture, learner, first_step, range(1))
        batches = batches.take(count)
        return [tf.nest.flatten(batch.query_images) for batch in batches]

    one, two, three = drawn(0, 3)
    np.testing.assert_array_equal(one[0], three[0])
    assert np.any(one[0] != two[0])
    np.testing.assert_array_equal(drawn(3, 1)[0][0], two[0])


@pytest.mark.parametrize("optimizer", ["interpolate", "sgd", "adam"])
def test_the_conditioning_branch_has_a_rate_of_its_own(optimizer):
    net, batch = network(), episodes(1)
    momentum = 0.9 if optimizer == "sgd" else 0.0

    def moved(rate: float) -> tuple[np.ndarray, ...]:
        """How far the first step goes: in a branch of its own, and elsewhere."""
        learner = learner_of(
            net,
            conditioning_rate=rate,
            meta_optimizer=optimizer,
            momentum=momentum,
        )
        old = learner.init()
        new, _ = learner.meta_step(old, batch, tf.constant(0))
        steps = [b - a for a, b in zip(old.theta, new.theta, strict=True)]
        inside = [
            v.path.startswith("conditioning_") for v in net.model.trainable_variables
        ]
        return tuple(
            np.linalg.norm(
                [
                    np.linalg.norm(s)
                    for s, i in zip(steps, inside, strict=True)
                    if i == j
                ]
            )
            for j in (True, False)
        )

    own, other = moved(1.0)
    assert own > 0
    assert other > 0
    for rate in (0.3, 0.1):
        scaled, same = moved(rate)
        np.testing.assert_allclose(scaled, rate * own, rtol=1e-2)
        np.testing.assert_allclose(same, other, rtol=1e-4)


def test_a_guide_is_read_once_and_serves_every_query():
    net = network()
    segmenter = ForwardFunctions(net).segmenter(net.weights())
    batch = task(episodes(1, shots=3, queries=5))
    adapted = segmenter.adapt(batch.support_images, batch.support_masks, seed=0)
    assert adapted.guides[0].shape == (3, net.model.get_layer("guide").output.shape[-1])
    together = adapted.predict(batch.query_images.numpy())
    inputs = {
        "support_images": batch.support_images,
        "support_masks": batch.support_masks,
        "query_images": batch.query_images,
    }
    logits = net.model({k: tf.cast(v, tf.float32) for k, v in inputs.items()})
    np.testing.assert_allclose(together, tf.nn.softmax(logits), atol=1e-5)
    alone = [adapted.predict(q[np.newaxis])[0] for q in batch.query_images.numpy()]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    # A function of the weights that were given, not of the model's variables.
    other = net.weights()._replace(theta=tuple(t * 1.5 for t in net.weights().theta))
    moved = dataclasses.replace(segmenter, weights=other)
    changed = moved.adapt(batch.support_images, batch.support_masks, seed=0)
    assert np.abs(changed.predict(batch.query_images.numpy()) - together).max() > 1e-3


@pytest.mark.parametrize(
    "changes, build, message",
    [
        ({"learner": "fomaml"}, network, "has no inner loop"),
        ({"learner": "joint"}, network, "has no inner loop"),
        ({}, lambda: Network(tiny_network(SIZE)), "conditioned on a support set"),
        ({"adapt": "decoder"}, network, "`adapt` must be all"),
        ({"encoder_rate": 0.1}, network, "`encoder_rate` 1"),
        ({"learner": "siamese"}, network, "use the network siamese"),
        (
            {"learner": "siamese", "loss": "bce_dice"},
            lambda: network("siamese"),
            "`loss` must be cross_entropy",
        ),
        ({"conditioning_rate": 0.1}, lambda: network("siamese"), "conditioning branch"),
    ],
)
def test_what_does_not_fit_is_refused(changes, build, message):
    with pytest.raises(UserError, match=message):
        learner_of(build(), **changes)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"learner": "maml", "inner_steps": 0}, "`inner_steps` must be at least 1"),
        ({"momentum": 0.9, "meta_optimizer": "adam"}, "needs `meta_optimizer`=sgd"),
        ({"momentum": 1.0, "meta_optimizer": "sgd"}, "`momentum` must be below 1"),
        ({"conditioning_rate": -1.0}, "`conditioning_rate` must be at least 0"),
    ],
)
def test_settings_out_of_range(changes, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(CONFIG, **changes)


def test_statistics_of_the_support_are_refused_without_an_inner_loop():
    net = network()
    with pytest.raises(UserError, match="`batch_norm` must be running"):
        ForwardFunctions(net).segmenter(net.weights(), batch_norm="support")


def test_trains_saves_and_loads(tmp_path):
    config = RunConfig(
        DataConfig(dataset_dir="sample:icons", shots=1, queries=1),
        ModelConfig(
            network="oslsm", image_size=32, backbone="VGG16", width=1 / 16, dilated=True
        ),
        dataclasses.replace(CONFIG, inner_steps=0),
        TrainConfig(
            run_dir=str(tmp_path / "run"),
            meta_steps=2,
            meta_batch=1,
            validate_every=2,
            val_episodes=2,
        ),
    )
    assert train(config)
    both = []
    for path in (tmp_path / "run", tmp_path / "run" / "model.keras"):
        net, weights, loaded = load_model(str(path))
        assert loaded == config
        segmenter = build_functions(loaded.learner, net).segmenter(weights)
        batch = task(episodes(1))
        adapted = segmenter.adapt(batch.support_images, batch.support_masks)
        predictions = adapted.predict(batch.query_images.numpy())
        assert predictions.shape == (3, 32, 32, 2)
        both.append(predictions)
    np.testing.assert_array_equal(*both)
    start = build_network(config.model).weights()
    moved = zip(start.theta, weights.theta, strict=True)
    assert any(np.any(a != b) for a, b in moved)


@pytest.mark.learned
@pytest.mark.parametrize(
    "model, name, steps", [("oslsm", "feedforward", 60), ("siamese", "siamese", 30)]
)
def test_the_support_decides_what_is_segmented(model, name, steps):
    # Figure S4: the same query with another support, or with another mask of the same
    # support picture, gives another mask.
    keras.utils.set_random_seed(7)
    lite = {"backbone": "EfficientNetLite0", "weights": "imagenet"}
    net = Network(build_model(model, image_size=64, **lite))
    learner = learner_of(net, learner=name)
    step, functions = graph(learner.meta_step), ForwardFunctions(net)
    rng = np.random.default_rng(1)
    pictures = [two_discs(rng, 0) for _ in range(8)]
    queries, red = map(np.stack, zip(*pictures, strict=True))
    truth = (red, blue(queries))
    support, mask = two_discs(rng, 0)
    given = [(support, mask), (support, blue(support))]
    given += [two_discs(rng, shown, both=False) for shown in (0, 1)]

    def iou(found, wanted):
        both = (found & (wanted == 1)).sum((1, 2))
        return (both / (found | (wanted == 1)).sum((1, 2))).mean()

    def ahead(state) -> float:
        """By how much what is asked for is found better than the other, at least."""
        segmenter, least = functions.segmenter(state.weights), []
        for number, (picture, mask) in enumerate(given):
            adapted = segmenter.adapt(picture[np.newaxis], mask[np.newaxis])
            found = adapted.predict(queries)[..., 1] > 0.5
            asked, other = truth[number % 2], truth[1 - number % 2]
            least.append(iou(found, asked) - iou(found, other))
        return min(least)

    state, rng = learner.init(), np.random.default_rng(0)
    for i in range(steps):
        tasks = []
        for shown in (0, 1):
            pictures = [two_discs(rng, shown) for _ in range(4)]
            images, masks = map(np.stack, zip(*pictures, strict=True))
            tasks.append((images[:1], masks[:1], images[1:], masks[1:]))
        fields = [tf.constant(np.stack(x)) for x in zip(*tasks, strict=True)]
        state, _ = step(state, Episode(*fields, None), tf.constant(i))
        if i % 10 == 9 and (lead := ahead(state)) > 0.3:
            break
    assert lead > 0.3
