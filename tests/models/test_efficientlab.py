import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.errors import UserError
from efficientlab_tf.models import decay_mask, efficientlab
from tests.models.second_order import hessian_error


def count(variables) -> int:
    return sum(int(np.prod(v.shape)) for v in variables)


def assert_no_parameter_is_dead(model: keras.Model) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), "uint8")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(images, training=True)[..., 0] ** 2)
    gradients = tape.gradient(loss, model.trainable_variables)
    assert all(g is not None for g in gradients)


@pytest.fixture(scope="module")
def small() -> keras.Model:
    """The default network at 64x96 pixels."""
    return efficientlab(image_size=(64, 96))


@pytest.mark.parametrize(
    "options,parameters",
    [
        ({}, 1_368_242),
        ({"rsd_stages": (6, 3)}, 2_071_714),
        ({"decoder": "none"}, 852_034),
        ({"residual": False}, 1_368_242),
        ({"decoder": "auto_deeplab"}, 2_658_882),
    ],
    ids=["rsd3", "rsd63", "none", "rsd3_without_residual", "auto_deeplab"],
)
def test_parameters_and_output_of_the_networks_of_table_1(options, parameters):
    model = efficientlab(image_size=32, **options)
    assert count(model.trainable_variables) == parameters
    assert model.output.shape == (None, 32, 32, 2)
    assert_no_parameter_is_dead(model)


def _behind_stage_6(network: keras.Model):
    for layer in network.layers:
        if layer.name.startswith(("block6", "block7")):
            yield from layer.trainable_variables


def test_an_encoder_that_goes_on_keeps_the_decoder():
    network = keras.applications.EfficientNetB0(
        include_top=False, weights=None, input_shape=(32, 32, 3)
    )
    model = efficientlab(image_size=32, last_stage=8)
    first = model.get_layer("rsd_first_conv")
    assert first.input.shape == (None, 1, 1, 320) and first.filters == 112
    to_112 = 320 * 112 + 112 + 2 * 112  # A 1x1 convolution, normalised.
    added = count(_behind_stage_6(network)) + to_112
    assert count(model.trainable_variables) == 1_368_242 + added
    assert_no_parameter_is_dead(model)


def test_b3_has_the_authors_parameters_less_their_dead_blocks():
    model = efficientlab(image_size=32, backbone="EfficientNetB3", rsd_stages=(6, 3))
    network = keras.applications.EfficientNetB3(
        include_top=False, weights=None, input_shape=(32, 32, 3)
    )
    dead = count(_behind_stage_6(network))
    assert count(model.trainable_variables) == 3_995_692
    # Theirs kept the blocks behind stage 6, which get no gradient.
    assert count(model.trainable_variables) + dead == 11_908_874


def test_the_residual_connection_is_what_residual_says():
    keras.utils.set_random_seed(1)
    images = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), "uint8")
    with_it = efficientlab(image_size=32)
    without = efficientlab(image_size=32, residual=False)
    without.set_weights(with_it.get_weights())
    names = "rsd3_upsample", "rsd3_out_bn", "rsd3_add"
    tensors = [with_it.get_layer(name).output for name in names]
    upsampled, out, added = keras.Model(with_it.input, tensors)(images)
    np.testing.assert_allclose(added, upsampled + out, atol=1e-6)
    assert "rsd3_add" not in [layer.name for layer in without.layers]
    last = keras.Model(without.input, without.get_layer("final_dropout").input)
    np.testing.assert_allclose(last(images), out, atol=1e-6)
    assert np.abs(upsampled).max() > 1e-3


@pytest.mark.parametrize("training", [False, True])
def test_uint8_and_float_images_give_the_same_logits(small, training):
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), "uint8")
    theta = [tf.convert_to_tensor(v) for v in small.trainable_variables]
    state = [tf.convert_to_tensor(v) for v in small.non_trainable_variables]

    def call(x):
        return small.stateless_call(theta, state, x, training=training)[0]

    from_uint8 = call(tf.constant(images))
    assert from_uint8.shape == (2, 64, 96, 2)
    assert from_uint8.dtype == tf.float32
    from_float = call(tf.constant(images, tf.float32))
    np.testing.assert_allclose(from_uint8, from_float, atol=1e-5)
    if not training:
        np.testing.assert_allclose(small(images), from_float, atol=1e-5)


def test_saved_and_loaded_it_is_the_same_network(small, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), "uint8")
    small(images, training=True)  # Moves the averages off their start.
    small.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images), small(images))
    for ours, theirs in zip(small.weights, loaded.weights, strict=True):
        assert ours.path == theirs.path
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    assert [type(layer) for layer in loaded.layers] == [
        type(layer) for layer in small.layers
    ]


def test_imagenet_weights_of_lite0_need_no_network():
    model = efficientlab(
        image_size=64, backbone="EfficientNetLite0", weights="imagenet"
    )
    kernel = model.get_layer("stem_conv").get_weights()[0]
    random = efficientlab(image_size=64, backbone="EfficientNetLite0")
    other = random.get_layer("stem_conv").get_weights()[0]
    assert kernel.shape == other.shape
    assert not np.allclose(kernel, other)
    assert count(model.trainable_variables) == 1_217_202


def test_without_dropout_there_is_no_random_state():
    model = efficientlab(
        image_size=32, num_classes=3, final_dropout=0, drop_connect=0, dtype="float64"
    )
    names = {variable.name for variable in model.non_trainable_variables}
    assert names == {"moving_mean", "moving_variance"}
    assert model.output.shape == (None, 32, 32, 4)
    assert {v.dtype for v in model.variables} == {"float64"}


def test_final_dropout_is_on_the_features_of_the_classifier(small):
    dropout = small.get_layer("final_dropout")
    assert dropout.rate == 0.2
    assert small.get_layer("classifier").input is dropout.output


def test_weight_decay_spares_only_batch_normalization(small):
    spared = {
        variable.path
        for variable, decayed in zip(
            small.trainable_variables, decay_mask(small), strict=True
        )
        if not decayed
    }
    normalization = {
        variable.path
        for layer in small.layers
        if isinstance(layer, keras.layers.BatchNormalization)
        for variable in layer.trainable_variables
    }
    assert spared == normalization
    assert len(spared) == 2 * 36


def test_second_derivative_of_the_whole_network():
    keras.utils.set_random_seed(1)
    model = efficientlab(
        image_size=32, final_dropout=0, drop_connect=0, dtype="float64"
    )
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (3, 32, 32, 3), "uint8")
    labels = random.integers(0, 2, (3, 32, 32))
    theta = [tf.convert_to_tensor(v) for v in model.trainable_variables]
    state = [tf.convert_to_tensor(v) for v in model.non_trainable_variables]

    def loss(theta):
        logits, _ = model.stateless_call(theta, state, images, training=True)
        return tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        )

    assert hessian_error(loss, theta, step=1e-7) < 1e-7


@pytest.mark.parametrize(
    "options",
    [
        {"image_size": 100},
        {"image_size": (64, 0)},
        {"image_size": (64, 64, 3)},
        {"backbone": "efficientnet-b0"},
        {"last_stage": 5},
        {"decoder": "deeplab"},
        {"rsd_stages": ()},
        {"rsd_stages": (3, 3)},
        {"rsd_stages": (1,)},
        {"num_classes": 0},
        {"final_dropout": 1.0},
        {"drop_connect": -0.1},
        {"weights": "noisy-student"},
        {"dtype": "float16"},
    ],
    ids=lambda options: "-".join(map(str, *options.items())),
)
def test_an_impossible_option_is_named(options):
    (name, value), *_ = options.items()
    with pytest.raises(UserError) as raised:
        efficientlab(**options)
    message = str(raised.value)
    assert message.startswith(f"`{name}` must be ")
    assert repr(value) in message
    assert "\n" not in message
