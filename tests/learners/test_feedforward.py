"""Learners without an inner loop: conditioned networks, and plain training."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.checkpoint.run import RunConfig, build_functions, build_network
from efficientlab_tf.config import DataConfig, LearnerConfig, ModelConfig, TrainConfig
from efficientlab_tf.data.mixture import Mixture
from efficientlab_tf.episode import IGNORE, Episode
from efficientlab_tf.errors import UserError
from efficientlab_tf.learners import build_learner
from efficientlab_tf.learners.siamese import half
from efficientlab_tf.losses import cross_entropy
from efficientlab_tf.models import build_model
from efficientlab_tf.models.siamese import downsample_labels, pair_model
from efficientlab_tf.segmenters.forward import ForwardFunctions
from efficientlab_tf.segmenters.inner_loop import fold_in
from efficientlab_tf.segmenters.network import Network
from efficientlab_tf.training import loop
from efficientlab_tf.training.loop import train
from tests.learners.contract import SIZE, LearnerContract, episodes
from tests.loading import load_model
from tests.models.tiny import tiny_network

NARROW = {"image_size": SIZE, "width": 1 / 16, "dilated": True}
CONFIG = LearnerConfig(
    learner="feedforward",
    loss="cross_entropy",
    l2=0.0,
    augment_rate=0.0,
    meta_optimizer="adam",
    meta_learning_rate=1e-3,
    meta_learning_rate_final=1e-3,
)


def network(model: str = "oslsm", **options) -> Network:
    keras.utils.set_random_seed(7)
    return Network(build_model(model, **(NARROW | {"dropout": 0.0} | options)))


def frozen() -> Network:
    """A network of which the decoder alone is trained."""
    keras.utils.set_random_seed(7)
    return Network(
        build_model(
            "closed_form",
            image_size=64,
            backbone="EfficientNetLite0",
            weights="imagenet",
            freeze_features=True,
            freeze_classifiers=True,
            stages="4,6",
        )
    )


def learner_of(net: Network, **changes):
    config = dataclasses.replace(CONFIG, **changes)
    return build_learner(net, config, meta_steps=100, seed=3)


def task(batch: Episode, index: int = 0) -> Episode:
    return Episode(*(field[index] for field in batch))


class TestJoint(LearnerContract):
    name = "joint"
    # Its displacement is a whole gradient, not one times an inner learning rate.
    changes = {"meta_learning_rate": 0.1, "meta_learning_rate_final": 0.1}

    def test_loss_is_finite_and_at_chance_at_initialisation(self):
        learner = self.learner(l2=0.0, loss="cross_entropy")
        _, metrics = learner.meta_step(learner.init(), episodes(2), tf.constant(0))
        assert 0.3 < float(metrics["loss"]) < 1.3

    def test_interpolation_follows_linear_annealing(self):
        learner = self.learner(meta_learning_rate=0.5, meta_learning_rate_final=0.0)
        assert float(learner.schedule(50)) == 0.25

    def test_a_step_that_is_not_finite_changes_nothing(self):
        learner = self.learner(meta_optimizer="adam")
        state = learner.init()
        state = state._replace(theta=tuple(t * np.inf for t in state.theta))
        new, metrics = learner.meta_step(state, episodes(1), tf.constant(0))
        assert float(metrics["bad_step"]) == 1.0
        for a, b in zip(state.optimizer, new.optimizer, strict=True):
            np.testing.assert_array_equal(a, b)

    def test_the_displacement_is_minus_the_gradient_on_all_examples(self):
        net = Network(tiny_network(SIZE))
        learner = learner_of(net, learner="joint")
        episode = task(episodes(1))
        update = learner.task_update(net.weights(), episode, tf.constant([1, 2]))
        images = tf.concat([episode.support_images, episode.query_images], 0)
        masks = tf.concat([episode.support_masks, episode.query_masks], 0)
        with tf.GradientTape() as tape:
            logits = net.model(tf.cast(images, tf.float32), training=True)
            loss = cross_entropy(logits, masks)
        gradient = tape.gradient(loss, net.model.trainable_variables)
        for d, g in zip(update.displacement, gradient, strict=True):
            np.testing.assert_allclose(d, -g, atol=1e-5)


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


def test_momentum_of_sgd():
    net = Network(tiny_network(SIZE))
    rate = {"meta_learning_rate": 0.01, "meta_learning_rate_final": 0.01}
    learner = learner_of(
        net, learner="joint", meta_optimizer="sgd", momentum=0.9, **rate
    )
    state, batch = learner.init(), episodes(1)
    velocity = [np.zeros(t.shape) for t in state.theta]
    for i in range(3):
        update = learner.displacement(state, batch, tf.constant(i))
        new, _ = learner.meta_step(state, batch, tf.constant(i))
        for j, d in enumerate(update.displacement):
            velocity[j] = 0.9 * velocity[j] + 0.01 * d.numpy()
            np.testing.assert_allclose(
                new.theta[j], state.theta[j] + velocity[j], atol=1e-5
            )
        state = new


def test_siamese_loss_is_that_of_half_of_all_pairs():
    net = network("siamese")
    learner = learner_of(net, learner="siamese")
    episode = task(episodes(1, shots=2, queries=2))
    masks = episode.support_masks.numpy()
    masks[0, :12] = IGNORE
    episode = episode._replace(support_masks=tf.constant(masks))
    pairs = pair_model(net.model)(
        {
            "support_images": tf.cast(episode.support_images, tf.float32),
            "support_masks": tf.cast(masks, tf.float32),
            "query_images": tf.cast(episode.query_images, tf.float32),
        }
    )
    s = pairs["similarity"].numpy().astype(np.float64)
    cells = pairs["labels"].shape[1:]
    query = downsample_labels(episode.query_masks, *cells).numpy().reshape(2, -1, 1)
    support = pairs["labels"].numpy().reshape(-1)
    known = np.broadcast_to(support != IGNORE, s.shape)
    same = query == support
    entropy = np.log1p(np.exp(np.where(same, -s, s)))
    right = (s > 0) == same
    losses = set()
    for number in range(4):
        seed = tf.constant([number, 2])
        columns = half(len(support), fold_in(seed, 1)).numpy()
        rows = half(query.shape[1], fold_in(seed, 2)).numpy()
        seen = np.zeros(s.shape, bool)
        seen[np.ix_(range(len(s)), rows, columns)] = True
        loss, metrics, _ = learner.loss(net.weights(), episode, seed)
        np.testing.assert_allclose(loss, entropy[seen & known].mean(), rtol=1e-5)
        expected = right[seen & known].mean()
        np.testing.assert_allclose(metrics["accuracy"], expected, rtol=1e-5)
        losses.add(float(loss))
    assert len(losses) == 4


def test_halves_are_drawn_uniformly_without_replacement():
    drawn = np.stack([half(9, tf.constant([seed, 0])) for seed in range(400)])
    assert drawn.shape == (400, 5)
    assert all(len(set(row)) == 5 for row in drawn.tolist())
    counts = np.bincount(drawn.flatten(), minlength=9)
    # Each is in a draw with probability 5/9; five standard deviations.
    assert np.all(np.abs(counts - 400 * 5 / 9) < 5 * np.sqrt(400 * 20 / 81))


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


def test_the_loss_of_siamese_cannot_be_replaced():
    config = dataclasses.replace(CONFIG, learner="siamese")
    with pytest.raises(UserError, match="`loss` must be .*, received an objective"):
        build_learner(network("siamese"), config, meta_steps=1, objective=cross_entropy)


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


def blue(picture: np.ndarray) -> np.ndarray:
    """The mask of a picture's blue disc."""
    return ((picture[..., 2] > 200) & (picture[..., 0] < 50)).astype(np.uint8)


def two_discs(rng, shown: int, both: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """A picture of a red and a blue disc on noise, 64 pixels, and the mask of one."""
    y, x = np.mgrid[:64, :64]
    picture = rng.integers(90, 160, (64, 64, 3)).astype(np.uint8)
    mask = np.zeros((64, 64), np.uint8)
    columns = rng.permutation([16, 48])
    for kind, colour in enumerate(((250, 10, 10), (10, 10, 250))):
        disc = (y - rng.integers(18, 46)) ** 2 + (x - columns[kind]) ** 2 < 14**2
        if kind == shown or both:
            picture[disc] = colour
        if kind == shown:
            mask[disc] = 1
    return picture, mask


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
    step = tf.function(learner.meta_step)
    state, rng = learner.init(), np.random.default_rng(0)
    for i in range(steps):
        tasks = []
        for shown in (0, 1):
            pictures = [two_discs(rng, shown) for _ in range(4)]
            images, masks = map(np.stack, zip(*pictures, strict=True))
            tasks.append((images[:1], masks[:1], images[1:], masks[1:]))
        fields = [tf.constant(np.stack(x)) for x in zip(*tasks, strict=True)]
        state, _ = step(state, Episode(*fields, None), tf.constant(i))
    segmenter = ForwardFunctions(net).segmenter(state.weights)
    rng = np.random.default_rng(1)
    pictures = [two_discs(rng, 0) for _ in range(8)]
    queries, red = map(np.stack, zip(*pictures, strict=True))
    truth = (red, blue(queries))

    def iou(found, wanted):
        both = (found & (wanted == 1)).sum((1, 2))
        return (both / (found | (wanted == 1)).sum((1, 2))).mean()

    support, mask = two_discs(rng, 0)
    given = [(support, mask), (support, blue(support))]
    given += [two_discs(rng, shown, both=False) for shown in (0, 1)]
    for number, (picture, mask) in enumerate(given):
        adapted = segmenter.adapt(picture[np.newaxis], mask[np.newaxis])
        found = adapted.predict(queries)[..., 1] > 0.5
        asked, other = truth[number % 2], truth[1 - number % 2]
        assert iou(found, asked) > iou(found, other) + 0.3
