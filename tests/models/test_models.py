from pathlib import Path

import keras
import pytest

from efficientlab_tf.errors import UserError
from efficientlab_tf.models import (
    MODELS,
    build_model,
    decay_mask,
    declare_decoder,
    decoder_mask,
)
from tests.models.tiny import tiny_network


def test_a_network_is_built_by_its_name():
    model = build_model("efficientlab", image_size=32, decoder="none", num_classes=2)
    assert model.output.shape == (None, 32, 32, 3)
    assert "efficientlab" in MODELS


def test_an_unknown_network_is_an_error_that_lists_the_known():
    with pytest.raises(UserError, match="must be one of .*efficientlab.*'unet'"):
        build_model("unet")


def test_an_unknown_option_is_an_error_that_names_it():
    with pytest.raises(UserError, match="received depth$"):
        build_model("efficientlab", depth=4)


def test_decoder_mask_of_every_network():
    for model, behind in (
        (build_model("meta_drn", image_size=32, width=0.05), 7),
        # Three convolutions with bias and normalization, and the classifier.
        (build_model("efficientlab", image_size=32, backbone="EfficientNetLite0"), 14),
    ):
        mask = decoder_mask(model)
        assert mask == (False,) * (len(mask) - behind) + (True,) * behind


def test_a_network_of_ones_own_declares_its_decoder(tmp_path):
    layers = keras.layers
    images = keras.Input((4, 4, 3))
    head = keras.Sequential([layers.Conv2D(3, 1), layers.Conv2D(2, 1)], name="my_head")
    x = layers.Conv2D(3, 1, name="features")(images)
    model = keras.Model(images, head(x), name="undeclared")
    with pytest.raises(UserError, match="undeclared are its decoder was not"):
        decoder_mask(model)
    model = keras.Model(images, head(x), name="declared")
    declare_decoder("declared", "my_")
    assert decoder_mask(model) == (False, False, True, True, True, True)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert decoder_mask(loaded) == decoder_mask(model)
    declare_decoder("declared", "your_", "their_")
    with pytest.raises(UserError, match="start with your_ or their_"):
        decoder_mask(model)


def test_the_decoder_of_a_shipped_model():
    path = Path(__file__).parents[2] / "saved_models/icons_fomaml_lite0/model.keras"
    model = keras.models.load_model(path)
    mask = decoder_mask(model)
    assert mask == (False,) * (len(mask) - 14) + (True,) * 14


def test_decay_mask_is_in_the_order_of_the_trainable_variables():
    expected = [True] + [False] * 2 + [True] + [False] * 2 + [True] * 2
    expected += [False] * 2 + [True] * 2
    assert decay_mask(tiny_network()) == tuple(expected)
