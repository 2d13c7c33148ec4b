import keras
import pytest

from efficientlab_tf.errors import UserError
from efficientlab_tf.models import MODELS, build_model, decay_mask, decoder_mask
from tests.models.tiny import tiny_network


def test_a_network_is_built_by_its_name():
    model = build_model("efficientlab", image_size=32, decoder="none", num_classes=2)
    assert model.output.shape == (None, 32, 32, 3)
    assert "efficientlab" in MODELS


def test_an_unknown_network_is_an_error_that_lists_the_known():
    with pytest.raises(UserError, match="expected one of .*efficientlab.*'unet'"):
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
    with pytest.raises(UserError, match="--adapt=all"):
        images = keras.Input((4, 4, 3))
        decoder_mask(keras.Model(images, keras.layers.Dense(2, name="top")(images)))


def test_decay_mask_is_in_the_order_of_the_trainable_variables():
    expected = [True] + [False] * 2 + [True] + [False] * 2 + [True] * 2
    expected += [False] * 2 + [True] * 2
    assert decay_mask(tiny_network()) == tuple(expected)
