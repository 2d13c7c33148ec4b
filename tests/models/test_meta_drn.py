import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.checkpoint.run import build_network
from efficientlab_tf.config import ModelConfig
from efficientlab_tf.errors import UserError
from efficientlab_tf.models import build_model
from efficientlab_tf.models.meta_drn import meta_drn


@pytest.fixture(scope="module")
def narrow():
    keras.utils.set_random_seed(0)
    return meta_drn(image_size=32, width=0.1)


def test_parameter_count_is_the_papers():
    model = build_model("meta_drn", image_size=224)
    # Keras's preprocessing holds no weights when mean and variance are given.
    trainable = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert trainable == 9_560_912
    assert 9.4e6 < trainable < 9.7e6
    assert model.output_shape == (None, 224, 224, 2)


def test_strides_and_dilations_are_the_papers(narrow):
    convolutions = {
        layer.name: (layer.strides[0], layer.dilation_rate[0], layer.kernel_size[0])
        for layer in narrow.layers
        if isinstance(layer, keras.layers.Conv2D)
    }
    assert convolutions == {
        "head1_conv": (2, 1, 3),
        "head2_conv": (1, 1, 3),
        "block1_shortcut_conv": (2, 1, 1),
        "block1_1_conv": (2, 1, 3),
        "block1_2_conv": (1, 1, 3),
        "block2_shortcut_conv": (1, 1, 1),
        "block2_1_conv": (1, 1, 3),
        "block2_2_conv": (1, 2, 3),
        "block3_shortcut_conv": (1, 1, 1),
        "block3_1_conv": (1, 2, 3),
        "block3_2_conv": (1, 4, 3),
        "degrid1_conv": (1, 2, 3),
        "degrid2_conv": (1, 1, 3),
        "sub_pixel_conv": (1, 1, 1),
    }
    assert not any(
        layer.use_bias
        for layer in narrow.layers
        if isinstance(layer, keras.layers.Conv2D)
    )


def test_upsampling_is_the_sub_pixel_shift(narrow):
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")
    inner = keras.Model(narrow.input, narrow.get_layer("sub_pixel_conv").output)
    logits = narrow(images)
    expected = tf.nn.depth_to_space(inner(images), 4)
    np.testing.assert_allclose(logits[..., 1:], expected, atol=1e-6)
    assert not np.any(logits[..., 0])
    assert np.std(logits[..., 1]) > 0


def test_it_survives_saving(narrow, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype("float32")
    narrow.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(images), narrow(images), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 30}, "`image_size` must be a multiple of 4"),
        ({"num_classes": 0}, "received 0 and 1.0"),
        ({"width": 0}, "received 1 and 0"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        meta_drn(**change)


def test_a_flag_of_another_network_is_refused():
    with pytest.raises(UserError, match="`backbone`=EfficientNetB3 has no effect"):
        build_network(ModelConfig(network="meta_drn", backbone="EfficientNetB3"))
