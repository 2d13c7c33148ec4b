"""Layers without a right second derivative are found and named."""

import dataclasses

import keras
import pytest
import tensorflow as tf

from efficientlab_tf.errors import UserError
from efficientlab_tf.learners import build_learner
from efficientlab_tf.learners.differentiability import check_second_derivatives
from efficientlab_tf.losses import Objective
from efficientlab_tf.models import build_model
from efficientlab_tf.models.layers import BatchNormalization, Resize
from efficientlab_tf.segmenters.inner_loop import InnerLoop
from efficientlab_tf.segmenters.network import Network
from tests.learners.contract import CONFIG, episodes
from tests.models.tiny import tiny_network

layers = keras.layers


class Inside(layers.Layer):
    """Resizes in a function of its own, and under another name."""

    @tf.function
    def call(self, inputs):
        with tf.name_scope("elsewhere"):
            return tf.image.resize(inputs, (32, 32))


class Loop(layers.Layer):
    def call(self, inputs):
        return tf.while_loop(
            lambda i, x: i < 2, lambda i, x: (i + 1, tf.sin(x)), (0, inputs)
        )[1]


def _network(layer: layers.Layer) -> Network:
    """The layer between two convolutions and a nonlinearity, in 16 to 32 pixels."""
    images = keras.Input((32, 32, 3))
    x = layers.Conv2D(4, 3, strides=2, padding="same")(images)
    x = layers.Activation("tanh")(layer(x))
    x = layers.Conv2D(2, 1)(x)
    # Named as the scope that TensorFlow opens inside other layers.
    return Network(keras.Model(images, Resize(32, 32, name="resize")(x)))


BAD = [
    (layers.UpSampling2D(2, interpolation="bilinear"), "layers.Resize"),
    (layers.UpSampling2D(2, interpolation="bicubic"), "layers.Resize"),
    (layers.Resizing(32, 32), "layers.Resize"),
    (layers.BatchNormalization(), "layers.BatchNormalization"),
    (layers.LayerNormalization(), "another layer"),
    (layers.GroupNormalization(2), "another layer"),
    (Inside(), "another layer"),
    (Loop(), "another layer"),
]
GOOD = [
    BatchNormalization(),
    Resize(32, 32, name="other"),
    layers.UpSampling2D(2),
    layers.MaxPooling2D(2),
    layers.AveragePooling2D(2),
    layers.Conv2DTranspose(4, 3, strides=2),
    layers.PReLU(),
    layers.Dropout(0.3),
]


def _name(value) -> str:
    return type(value).__name__ if isinstance(value, layers.Layer) else ""


@pytest.mark.parametrize(("layer", "advice"), BAD, ids=_name)
def test_a_bad_layer_is_named_at_the_first_meta_step(layer, advice):
    config = dataclasses.replace(CONFIG, learner="maml", inner_steps=1)
    learner = build_learner(_network(layer), config, meta_steps=1)
    name = f"layer {layer.name} \\({type(layer).__name__}\\) has no right second"
    with pytest.raises(UserError, match=f"{name}.*{advice}"):
        tf.function(learner.meta_step)(learner.init(), episodes(1), tf.constant(0))


@pytest.mark.parametrize("layer", GOOD, ids=_name)
def test_a_good_layer_is_let_through(layer):
    check_second_derivatives(InnerLoop(_network(layer), Objective()))


@pytest.mark.parametrize("learner", ["fomaml", "maml"])
def test_first_order_learners_take_any_layer(learner):
    config = dataclasses.replace(
        CONFIG, learner=learner, first_order=True, inner_steps=2
    )
    network = _network(layers.LayerNormalization())
    learner = build_learner(network, config, meta_steps=1)
    _, metrics = learner.meta_step(learner.init(), episodes(1), tf.constant(0))
    assert not metrics["bad_step"]


@pytest.mark.parametrize(
    "model",
    [
        lambda: tiny_network(32, dropout=0.3),
        lambda: build_model("meta_drn", image_size=32, width=0.1),
        lambda: build_model("efficientlab", image_size=32, rsd_stages=(6, 3)),
        lambda: build_model(
            "efficientlab",
            image_size=32,
            backbone="EfficientNetLite0",
            decoder="auto_deeplab",
        ),
    ],
    ids=["tiny", "meta_drn", "efficientlab", "auto_deeplab"],
)
def test_every_network_of_the_package_passes(model):
    check_second_derivatives(InnerLoop(Network(model()), Objective()))
