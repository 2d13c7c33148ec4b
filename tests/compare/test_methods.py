"""Methods as they are typed, and what they become: of any size, or an oracle."""

import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.checkpoint.files import save_keras
from efficientlab_tf.checkpoint.run import RunConfig
from efficientlab_tf.config import (
    DataConfig,
    LearnerConfig,
    ModelConfig,
    Settings,
)
from efficientlab_tf.config.points import DENSE
from efficientlab_tf.data.manifest import Manifest
from efficientlab_tf.errors import UserError
from efficientlab_tf.evaluation import measure as measuring
from efficientlab_tf.evaluation.measure import Unit
from efficientlab_tf.evaluation.methods import (
    Method,
    at_size,
    comparable,
    parse_methods,
)
from efficientlab_tf.evaluation.oracle import Oracle
from efficientlab_tf.segmenters.network import Network
from tests.models.tiny import tiny_network


def test_methods_as_they_are_typed():
    methods = parse_methods(
        "nearest_neighbour, tuned=runs/x:inner_steps=20:adapt=decoder,"
        "logistic_regression=m.keras"
    )
    assert methods == (
        Method("nearest_neighbour"),
        Method("tuned", "runs/x", Settings(steps=20, adapt="decoder")),
        Method("logistic_regression", "m.keras"),
    )


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "`methods` is needed"),
        ("what", "LABEL=MODEL; received 'what'"),
        ("=runs/x", "LABEL=MODEL; received '=runs/x'"),
        ("x=runs/x:stages=3", "received 'stages=3'"),
        ("x=runs/x:inner_steps", "received 'inner_steps'"),
        ("x=runs/x:steps=three", "x: steps is not a number, received 'three'"),
        ("x=runs/x:steps=-1", "`steps` must be at least 0, received -1"),
        ("x=runs/x,x=runs/y", "names x twice"),
        ("all_foreground=runs/x", "needs no model"),
        ("nearest_neighbour:l2=0", "has no settings"),
    ],
)
def test_methods_that_cannot_be_read(text, message):
    with pytest.raises(UserError, match=message):
        parse_methods(text)


def test_settings_of_a_method_that_do_not_suit_its_model(model):
    method = Method("x", str(model), Settings(batch_norm="query"))
    with pytest.raises(UserError, match="batch_norm must be running or support"):
        comparable(method, backbone="", eval_size=64)


def test_a_model_is_built_with_its_own_and_the_given_settings(model):
    method = Method("x", str(model), Settings(steps=3, batch_norm="running"))
    segmenter, adaptation = comparable(method, backbone="", eval_size=64)
    assert (segmenter.steps, segmenter.batch_norm) == (3, "running")
    assert segmenter.learning_rate == LearnerConfig().inner_learning_rate
    assert adaptation == "3 steps at 0.005, batch norm running"
    own, adaptation = comparable(Method("x", str(model)), backbone="", eval_size=96)
    assert own.segmenter.steps == 1
    assert adaptation == "1 steps at 0.005, batch norm support"
    assert (own.own, own.wanted) == ((64, 64), (96, 96))


class Half:
    """Says what it is shown, at 4 by 4 pixels: the red of the query is foreground."""

    def adapt(self, images, masks, *, seed):
        assert images.shape == (1, 4, 4, 3) and images.dtype == np.uint8
        assert masks.shape == (1, 4, 4) and set(np.unique(masks)) == {0, 1, 255}
        return self

    def predict(self, images):
        assert images.shape[1:] == (4, 4, 3) and images.dtype == np.uint8
        red = images[..., 0] / np.float32(255)
        return np.stack([1 - red, red], axis=-1)


def test_a_segmenter_at_another_size():
    segmenter = at_size(Half(), (4, 4), (8, 8))
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1, 8, 8, 3)).astype(np.uint8)
    masks = np.zeros((1, 8, 8), np.uint8)
    masks[:, 4:], masks[:, :2] = 1, 255
    probabilities = segmenter.adapt(image, masks, seed=0).predict(image)
    small = tf.image.resize(image, (4, 4), antialias=True).numpy().round()
    red = tf.image.resize(small[..., :1] / 255, (8, 8)).numpy()[..., 0]
    np.testing.assert_allclose(probabilities[..., 1], red, atol=1e-6)
    np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-6)
    sparse = np.full_like(masks, 255)
    sparse[:, 0, 1], sparse[:, 3, 3] = 0, 1  # Both between the nearest pixels.
    segmenter.adapt(image, tf.constant(sparse), seed=0)
    same = Half()
    assert at_size(same, (4, 4), (4, 4)) is same


class Sure:
    """Predicts the same probabilities of three classes everywhere."""

    def predict(self, images):
        return np.broadcast_to([0.3, 0.2, 0.4, 0.1], (*images.shape[:3], 4))


def test_an_oracle_knows_the_class_of_a_task():
    oracle = Oracle(Sure(), ("a", "b", "c"))
    images, masks = np.zeros((1, 4, 4, 3), np.uint8), np.zeros((1, 4, 4), np.uint8)

    def found(name):
        return oracle.for_task(name).adapt(images, masks).predict(images)[0, 0, 0]

    np.testing.assert_allclose(found("val-b"), [0.3 / 0.7, 0.4 / 0.7])
    np.testing.assert_allclose(found("a"), [0.4 / 0.6, 0.2 / 0.6])
    np.testing.assert_allclose(found("c+b"), [0.3 / 0.8, 0.1 / 0.8, 0.4 / 0.8])
    with pytest.raises(UserError, match="trained on class d, received one of a, b, c"):
        oracle.for_task("d")


def test_an_oracle_is_a_network_of_many_classes(config, model):
    oracle = Method("oracle", str(model))
    with pytest.raises(UserError, match="oracle: .* trained with `labels`=dataset"):
        comparable(oracle, backbone="", eval_size=32)
    names = Manifest.load("sample:icons").with_splits(config.splits).split("test")
    run = RunConfig(
        DataConfig(
            dataset_dir="sample:icons",
            splits=config.splits,
            train_split="test",
            labels="dataset",
            val_split="",
        ),
        ModelConfig(image_size=32, num_classes=2),
        LearnerConfig(learner="joint", inner_steps=0, batch_norm="running"),
    )
    network = Network(tiny_network(32, num_classes=2))
    path = model.parent / "joint.keras"
    save_keras(path, network, network.weights(), run)
    unit = Unit(Method("oracle", str(path)), 1, DENSE, None, config)
    measured, _ = measuring.measure(unit)
    assert {result.name for result in measured.results} == set(names)
