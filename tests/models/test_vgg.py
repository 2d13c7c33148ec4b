import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.errors import UserError
from efficientlab_tf.models import build_model, decoder_mask, vgg, with_classes
from efficientlab_tf.models.backbones import dtype_scope
from efficientlab_tf.models.features import dense_features
from tests.models.narrow import without_memory
from tests.models.second_order import hessian_error

WIDTH = 1 / 16


def classification_network(width: float, classes: int = 10) -> keras.Model:
    """VGG-16 as keras.applications makes it, narrower; random weights and biases."""
    layers = keras.layers
    images = x = keras.Input((224, 224, 3))
    blocks = [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]
    for i, (filters, convolutions) in enumerate(blocks, start=1):
        for j in range(1, convolutions + 1):
            name = f"block{i}_conv{j}"
            x = layers.Conv2D(
                int(width * filters), 3, padding="same", activation="relu", name=name
            )(x)
        x = layers.MaxPooling2D(name=f"block{i}_pool")(x)
    x = layers.Flatten()(x)
    x = layers.Dense(int(width * 4096), activation="relu", name="fc1")(x)
    x = layers.Dense(int(width * 4096), activation="relu", name="fc2")(x)
    x = layers.Dense(classes, name="predictions")(x)
    model = keras.Model(images, x)
    random = np.random.default_rng(0)
    for variable in model.variables:
        if variable.name == "bias":
            variable.assign(random.normal(size=variable.shape))
    return model


@pytest.fixture(scope="module")
def narrow() -> keras.Model:
    return classification_network(WIDTH)


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, [1, 224, 224, 3]).astype("float32")


def fc_outputs(network: keras.Model, image: np.ndarray) -> list[np.ndarray]:
    """fc2 and predictions of a classification network on one image."""
    tensors = [network.get_layer(name).output for name in ("fc2", "predictions")]
    model = keras.Model(network.input, tensors)
    # It writes into what it is given.
    preprocessed = keras.applications.vgg16.preprocess_input(image.copy())
    return [x.numpy() for x in model(preprocessed)]


def test_convolutions_give_what_the_dense_layers_give(narrow, image):
    fc2, predictions = fc_outputs(narrow, image)
    fcn = keras.Model(*vgg.vgg16_fcn((224, 224), width=WIDTH))
    vgg.copy_weights(narrow, fcn)
    features = fcn(image).numpy()
    assert features.shape == (1, 7, 7, 256)
    # Only there does the 7x7 kernel of fc6 lie within the 7x7 cells.
    np.testing.assert_allclose(features[:, 3, 3], fc2, rtol=1e-4, atol=1e-5)
    assert np.abs(features[:, 0, 0] - fc2).max() > 0.1
    classifier = keras.Model(*vgg.vgg16_classifier(10, width=WIDTH, prefix="a_"))
    vgg.copy_weights(narrow, classifier, "a_")
    np.testing.assert_allclose(classifier(image), predictions, rtol=1e-4, atol=1e-5)
    with_others = keras.Model(*vgg.vgg16_classifier(7, width=WIDTH))
    kernel = with_others.get_layer("fc8").kernel.numpy()
    vgg.copy_weights(narrow, with_others)
    np.testing.assert_array_equal(with_others.get_layer("fc8").kernel.numpy(), kernel)
    fc7 = with_others.get_layer("fc7").output
    fc7 = keras.Model(with_others.input, fc7)(image)
    np.testing.assert_allclose(fc7[:, 0, 0], fc2, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prefix", ["", "branch_"])
def test_imagenet_weights_are_the_classification_networks(
    monkeypatch, narrow, image, prefix
):
    monkeypatch.setattr(vgg, "_BLOCKS", ((4, 2), (8, 2), (16, 3), (32, 3), (32, 3)))
    monkeypatch.setattr(vgg, "_FULLY_CONNECTED", 256)
    received = []

    def download(**options):
        received.append(options)
        return narrow

    monkeypatch.setattr(keras.applications, "VGG16", download)
    fcn = keras.Model(*vgg.vgg16_fcn((224, 224), weights="imagenet", prefix=prefix))
    classifier = keras.Model(
        *vgg.vgg16_classifier(10, weights="imagenet", prefix=prefix)
    )
    fc2, predictions = fc_outputs(narrow, image)
    features = fcn(image)[:, 3, 3]
    np.testing.assert_allclose(features, fc2, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(classifier(image), predictions, rtol=1e-4, atol=1e-5)
    # With its top, which is the default.
    assert received == [{"weights": "imagenet"}] * 2


def test_at_width_one_it_is_vgg16():
    with without_memory():
        theirs = keras.applications.VGG16(weights=None)
        classifier = keras.Model(*vgg.vgg16_classifier(1000))
        fcn = keras.Model(*vgg.vgg16_fcn((64, 96)))
    assert classifier.count_params() == theirs.count_params() == 138_357_544
    assert fcn.count_params() == 134_260_544
    names = {"fc6": "fc1", "fc7": "fc2", "fc8": "predictions"}
    for layer in classifier.layers:
        if layer.weights:
            same = theirs.get_layer(names.get(layer.name, layer.name))
            for ours, variable in zip(layer.weights, same.weights, strict=True):
                assert np.prod(ours.shape) == np.prod(variable.shape)
                assert ours.shape[-1] == variable.shape[-1]
    assert fcn.output.shape == (None, 2, 3, 4096)


def test_dilated_it_has_stride_8_and_the_same_weights():
    plain, dilated = (
        keras.Model(*vgg.vgg16_fcn((64, 96), width=WIDTH, dilated=dilated, dropout=0))
        for dilated in (False, True)
    )
    assert plain.output.shape == (None, 2, 3, 256)
    assert dilated.output.shape == (None, 8, 12, 256)
    rates = {
        layer.name: layer.dilation_rate[0]
        for layer in dilated.layers
        if isinstance(layer, keras.layers.Conv2D)
    }
    assert len(rates) == 15
    assert {name: rate for name, rate in rates.items() if rate > 1} == {
        "block5_conv1": 2,
        "block5_conv2": 2,
        "block5_conv3": 2,
        "fc6": 4,
    }
    pools = [layer.name for layer in dilated.layers if "pool" in layer.name]
    assert pools == ["block1_pool", "block2_pool", "block3_pool"]
    assert [v.path for v in plain.variables] == [v.path for v in dilated.variables]

    # Were pool4 and pool5 to take every second cell, then the smaller stride would see
    # the same between their cells.
    def subsample(layer):
        if layer.name in ("block4_pool", "block5_pool"):
            return keras.layers.MaxPooling2D(1, strides=2)
        return type(layer).from_config(layer.get_config())

    strided = keras.models.clone_model(plain, clone_function=subsample)
    strided.set_weights(dilated.get_weights())
    images = np.random.default_rng(0).integers(0, 256, [1, 64, 96, 3])
    features = dilated(images).numpy()
    np.testing.assert_allclose(features[:, ::4, ::4], strided(images), atol=1e-5)
    assert features.std() > 1e-3


def test_dropout_is_in_training_alone_and_can_be_left_out():
    images = tf.random.stateless_uniform([1, 32, 32, 3], [0, 0], 0, 255)
    model = keras.Model(*vgg.vgg16_fcn((32, 32), width=WIDTH))
    dropouts = [x for x in model.layers if isinstance(x, keras.layers.Dropout)]
    assert [(x.name, x.rate) for x in dropouts] == [
        ("fc6_dropout", 0.5),
        ("fc7_dropout", 0.5),
    ]
    np.testing.assert_array_equal(model(images), model(images))
    assert np.any(model(images, training=True) != model(images, training=True))
    without = keras.Model(*vgg.vgg16_fcn((32, 32), width=WIDTH, dropout=0.0))
    assert not without.non_trainable_variables


def test_without_a_network_the_error_says_how_to_go_on(monkeypatch):
    def unreachable(**_):
        raise Exception("URL fetch failure on\nhttps://...: None -- no route")

    monkeypatch.setattr(keras.applications, "VGG16", unreachable)
    monkeypatch.setattr(vgg, "_FULLY_CONNECTED", 8)
    with pytest.raises(UserError, match="VGG16: its ImageNet weights .*no route"):
        dense_features("VGG16", 32, weights="imagenet")


@pytest.mark.parametrize(
    "options,shape",
    [
        ({"backbone": "VGG16", "width": WIDTH}, (2, 3, 256)),
        ({"backbone": "VGG16", "width": WIDTH, "dilated": True}, (8, 12, 256)),
        ({"backbone": "EfficientNetLite0"}, (4, 6, 112)),
        ({"backbone": "EfficientNetLite0", "stage": 3}, (16, 24, 24)),
    ],
    ids=str,
)
def test_dense_features_of_any_backbone(options, shape):
    with dtype_scope("float64"):
        images, features = dense_features(image_size=(64, 96), **options)
    assert images.shape == (None, 64, 96, 3)
    assert features.shape == (None, *shape)
    model = keras.Model(images, features)
    assert {v.dtype for v in model.trainable_variables} == {"float64"}
    assert model.layers[1].name == "preprocessing"


def test_a_prefix_changes_names_and_nothing_else():
    images = tf.random.stateless_uniform([1, 32, 32, 3], [0, 0], 0, 255)
    plain, named = (
        keras.Model(*dense_features("EfficientNetLite0", 32, "imagenet", prefix=prefix))
        for prefix in ("", "branch_")
    )
    assert [v.path for v in named.variables] == [
        f"branch_{v.path}" for v in plain.variables
    ]
    assert named.layers[1].name == "branch_preprocessing"
    np.testing.assert_array_equal(named(images), plain(images))
    narrow = keras.Model(*dense_features("VGG16", 32, width=WIDTH, prefix="branch_"))
    names = [layer.name for layer in narrow.layers[1:]]
    assert all(name.startswith("branch_") for name in names)


def test_fcn_is_the_features_normalized_scored_and_upsampled():
    model = build_model("fcn", image_size=64, width=WIDTH, num_classes=3)
    images = tf.random.stateless_uniform([2, 64, 64, 3], [0, 0], 0, 255)
    bias = model.get_layer("classifier").bias
    bias.assign([1.0, 2.0, 3.0, 4.0])
    names = "fc7_dropout", "classifier_bn", "classifier"
    tensors = [model.get_layer(name).output for name in names]
    features, normalized, scores = keras.Model(model.input, tensors)(images)
    np.testing.assert_allclose(normalized, features / np.sqrt(1.001), rtol=1e-5)
    kernel = model.get_layer("classifier").kernel[0, 0]
    np.testing.assert_allclose(scores, normalized @ kernel + bias, rtol=1e-4, atol=1e-4)
    # Half-pixel centres.
    upsampled = tf.image.resize(scores, (64, 64))
    np.testing.assert_allclose(model(images), upsampled, rtol=1e-4, atol=1e-4)
    without = build_model(
        "fcn", image_size=64, width=WIDTH, normalize_features=False, dilated=True
    )
    assert "classifier_bn" not in [layer.name for layer in without.layers]
    assert without.get_layer("logits").input.shape == (None, 8, 8, 2)
    other = build_model("fcn", image_size=32, backbone="EfficientNetLite0")
    assert other.output.shape == (None, 32, 32, 2)


def test_the_fully_connected_layers_of_fcn_are_its_decoder():
    model = build_model("fcn", image_size=32, width=WIDTH)
    found = [
        variable.path
        for variable, behind in zip(
            model.trainable_variables, decoder_mask(model), strict=True
        )
        if behind
    ]
    layers = {"fc6", "fc7", "classifier", "classifier_bn"}
    assert {path.split("/")[0] for path in found} == layers
    assert len(found) == 8
    assert len(model.trainable_variables) == 26 + 8


def test_fcn_can_have_another_number_of_classes():
    model = build_model("fcn", image_size=32, width=WIDTH)
    images = tf.random.stateless_uniform([1, 32, 32, 3], [0, 0], 0, 255)
    probabilities = tf.nn.softmax(with_classes(model, 3)(images))
    np.testing.assert_allclose(
        probabilities[..., 0], tf.nn.softmax(model(images))[..., 0], atol=1e-5
    )


def test_fcn_survives_saving(tmp_path):
    model = build_model("fcn", image_size=32, width=WIDTH)
    images = tf.random.stateless_uniform([1, 32, 32, 3], [0, 0], 0, 255)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images), model(images))


def test_second_derivative_of_fcn():
    keras.utils.set_random_seed(1)
    model = build_model("fcn", image_size=32, width=WIDTH, dropout=0, dtype="float64")
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (4, 32, 32, 3)).astype("float64")
    labels = random.integers(0, 2, (4, 32, 32))
    theta = [tf.convert_to_tensor(v) for v in model.trainable_variables]
    state = [tf.convert_to_tensor(v) for v in model.non_trainable_variables]

    def loss(theta):
        logits, _ = model.stateless_call(theta, state, images, training=True)
        return tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        )

    assert hessian_error(loss, theta, step=1e-8) < 1e-6


@pytest.mark.parametrize(
    "options",
    [
        {"image_size": 48},
        {"backbone": "LeNet"},
        {"num_classes": 0},
        {"weights": "coco"},
        {"width": 0},
        {"width": 0.5, "weights": "imagenet"},
        {"width": 0.5, "backbone": "EfficientNetLite0"},
        {"dilated": True, "backbone": "EfficientNetLite0"},
        {"dropout": 1.0},
        {"dtype": "float16"},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_an_impossible_option_is_named(options):
    (name, value), *_ = options.items()
    with pytest.raises(UserError) as raised:
        build_model("fcn", **options)
    message = str(raised.value)
    assert message.startswith(f"`{name}` must be ")
    assert message.endswith(f"received {value!r}")
    assert "\n" not in message


@pytest.mark.parametrize("backbone,stage", [("VGG16", 5), ("EfficientNetLite0", 7)])
def test_an_impossible_stage_is_named(backbone, stage):
    with pytest.raises(UserError, match=f"`stage` must be .* received {stage}"):
        dense_features(backbone, 32, stage=stage)
