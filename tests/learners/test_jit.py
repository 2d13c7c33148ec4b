"""Under XLA a meta-step, and an inner loop, equal the same without."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.api.loading import load
from efficientlab_tf.checkpoint.run import build_functions
from efficientlab_tf.config import LearnerConfig, Settings
from efficientlab_tf.errors import UserError
from efficientlab_tf.graphs import graph
from efficientlab_tf.learners import build_learner
from efficientlab_tf.models import build_model
from efficientlab_tf.models.layers import BatchNormalization, Dropout, Resize
from efficientlab_tf.segmenters.network import Network
from tests.learners.contract import CONFIG, episodes
from tests.models.tiny import tiny_network


def plain_network(size):
    """A convolution, a normalization and a head: little for XLA to compile."""
    images = keras.Input((size, size, 3))
    x = keras.layers.Rescaling(1 / 64, -2.0)(images)
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", name="stem")(x)
    x = keras.layers.Activation("swish")(BatchNormalization(name="stem_bn")(x))
    x = keras.layers.Conv2D(2, 1, name="logits")(x)
    return keras.Model(images, Resize(size, size, align_corners=True)(x))


@pytest.mark.parametrize(
    # Every kind of layer to the second derivative once; the others are other loops.
    ("name", "steps", "model"),
    [
        ("fomaml", 2, plain_network),
        ("maml", 2, tiny_network),
        ("meta_sgd", 1, plain_network),
    ],
)
def test_jit_and_plain_meta_steps_agree(name, steps, model):
    # XLA draws other random numbers, so this meta-step draws none that matter:
    # no dropout, no augmentation, and mini-batches of the whole support set.
    config = dataclasses.replace(
        CONFIG,
        learner=name,
        inner_steps=steps,
        inner_batch=0,
        inner_learning_rate=0.05,
    )
    keras.utils.set_random_seed(7)
    learner = build_learner(Network(model(16)), config, meta_steps=10)
    state, batch = learner.init(), episodes(2, size=16)._replace(name=None)
    plain, compiled = (
        graph(learner.meta_step, jit_compile=jit)(state, batch, tf.constant(0))
        for jit in (False, True)
    )
    moved = [p - t for p, t in zip(plain[0].theta, state.theta, strict=True)]
    apart = [p - c for p, c in zip(plain[0].theta, compiled[0].theta, strict=True)]
    assert tf.linalg.global_norm(apart) < 1e-4 * tf.linalg.global_norm(moved)
    for p, c in zip(plain[0].statistics, compiled[0].statistics, strict=True):
        np.testing.assert_allclose(p, c, rtol=1e-4, atol=1e-4)
    assert plain[1].keys() == compiled[1].keys()
    for metric, value in plain[1].items():
        np.testing.assert_allclose(
            value, compiled[1][metric], rtol=1e-4, err_msg=metric
        )


SIZE = 32
INNER = LearnerConfig(
    inner_learning_rate=0.05, inner_steps=3, inner_batch=2, augment_rate=0.5
)


def small(name, size):
    options = {"image_size": size, "num_classes": 1}
    if name == "efficientlab":
        options |= {"backbone": "EfficientNetLite0", "final_dropout": 0.4}
        return Network(build_model(name, drop_connect=0.2, **options))
    if name == "meta_drn":
        return Network(build_model(name, width=0.05, **options))
    return Network(tiny_network(size, dropout=0.4))


@pytest.mark.parametrize(
    # The gradient of an untrained EfficientLab is ill-conditioned: images that differ
    # by a millionth change it by half a percent and more, and XLA rounds otherwise.
    ("name", "size", "batch", "steps", "rate", "near"),
    [
        ("tiny", SIZE, 2, 3, 0.05, 1e-3),
        ("efficientlab", 2 * SIZE, 6, 1, 1e-4, 5e-2),
        ("meta_drn", SIZE, 2, 3, 0.05, 1e-3),
    ],
)
def test_an_inner_loop_compiled_and_not_agree(name, size, batch, steps, rate, near):
    # Mini-batches, augmentation and dropout, all of them drawn at random.
    network = small(name, size)
    weights = network.weights()
    episode = episodes(1, shots=batch + 1, size=size)
    config = dataclasses.replace(INNER, inner_batch=batch)
    images, masks = (x[0].numpy() for x in episode[:2])
    adapted = []
    for jit in ("off", "on"):
        functions = build_functions(config, network, jit)
        assert functions.inner.jit == (jit == "on")
        segmenter = functions.segmenter(
            weights, learning_rate=rate, steps=steps, batch_norm="support"
        )
        adapted.append(segmenter.adapt(images, masks, seed=4))
        *_, walked = segmenter.walk(images, masks, seed=4)
        pairs = zip(walked.weights.theta, adapted[-1].weights.theta, strict=True)
        for one, other in pairs:
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    plain, compiled = adapted
    np.testing.assert_allclose(plain.losses, compiled.losses, rtol=1e-4)
    pairs = zip(plain.weights.theta, compiled.weights.theta, strict=True)
    apart = tf.linalg.global_norm([p - c for p, c in pairs])
    pairs = zip(plain.weights.theta, weights.theta, strict=True)
    assert apart < near * tf.linalg.global_norm([p - t for p, t in pairs])
    found = [one.predict(images) for one in adapted]
    np.testing.assert_allclose(*found, atol=near)


@pytest.mark.parametrize("shape", [None, (None, 1, 1, None)])
def test_dropout_is_keras_own_and_the_same_under_xla(shape):
    x = tf.random.stateless_normal([4, 5, 6, 3], [1, 2])

    def dropped(kind, jit):
        layer = kind(0.4, noise_shape=shape, seed=11)
        return tf.function(lambda: layer(x, training=True), jit_compile=jit)()

    plain = dropped(keras.layers.Dropout, False)
    assert 0.1 < np.mean(plain == 0) < 0.9
    for jit in (False, True):
        np.testing.assert_array_equal(plain, dropped(Dropout, jit))


def test_settings_choose_it_and_what_has_no_inner_loop_says_so():
    model = load("icons_fomaml_lite0")
    assert not model.segmenter().functions.inner.jit
    assert model.segmenter(settings=Settings(jit="on")).functions.inner.jit
    for name in ("photos_closed_form_lite0", "linear", "nearest_neighbour"):
        with pytest.raises(UserError, match=r"^`jit` has no effect: .*; leave it out$"):
            load(name).segmenter(settings=Settings(jit="on"))


def test_what_xla_cannot_compile_is_said():
    network = small("tiny", SIZE)
    functions = build_functions(INNER, network, "on")

    def refused(*arguments):
        tf.strings.as_string(arguments[0][0])
        return arguments[0], arguments[1], tf.strings.to_number("0")

    functions.inner._step = tf.function(refused, jit_compile=True)
    segmenter = functions.segmenter(
        network.weights(), learning_rate=0.05, steps=1, batch_norm="running"
    )
    episode = episodes(1, size=SIZE)
    with pytest.raises(UserError, match=r"^XLA cannot compile the inner loop of tiny "):
        segmenter.adapt(*(x[0].numpy() for x in episode[:2]))
