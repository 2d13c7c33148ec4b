import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.errors import UserError
from efficientlab_tf.models import backbones
from efficientlab_tf.models.backbones import build_encoder
from tests.models.shared import shared_path


def pattern(height: int, width: int) -> np.ndarray:
    """A picture anyone can make again: uint8 [1, height, width, 3]."""
    y, x, channel = np.ogrid[:height, :width, :3]
    return ((x * (channel + 2) + y * y // 32) % 256).astype("uint8")[None]


def features(encoder: backbones.Encoder) -> keras.Model:
    return keras.Model(encoder.images, encoder.stages)


@pytest.fixture(scope="module")
def lite0() -> keras.Model:
    return features(build_encoder("EfficientNetLite0", (224, 224), weights="imagenet"))


def test_lite0_gives_the_golden_features(lite0):
    path = shared_path("weights/efficientnet_lite0/golden.npz")
    with np.load(path) as golden:
        stages = lite0(golden["images"])
        for stage, name in (3, "block2b"), (4, "block3b"), (6, "block5c"):
            atol = 1e-4 * np.abs(golden[name]).max()
            np.testing.assert_allclose(stages[stage], golden[name], rtol=0, atol=atol)


def test_lite0_gives_the_golden_features_behind_stages_7_and_8():
    encoder = build_encoder(
        "EfficientNetLite0", (224, 224), weights="imagenet", last_stage=8
    )
    # The rest of the network, from the published file, up to the golden features.
    folder = shared_path("weights/efficientnet_lite0")
    layers = keras.layers
    conv = layers.Conv2D(1280, 1, use_bias=False, name="top_conv")
    norm = layers.BatchNormalization(epsilon=1e-3, name="top_bn")
    top = layers.ReLU(6.0)(norm(conv(encoder.stages[8])))
    with np.load(folder / "efficientnet_lite0_imagenet_notop.npz") as archive:
        for layer in (conv, norm):
            for variable in layer.weights:
                variable.assign(archive[f"{layer.name}/{variable.name}"])
    with np.load(folder / "golden.npz") as golden:
        expected = golden["top_activation"]
        found = keras.Model(encoder.images, top)(golden["images"])
    # 3e-3 is what the float16 kernels cost; with the float32 ones it is 5e-6.
    atol = 4e-3 * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)
    assert np.abs(found - expected).mean() < 5e-5 * np.abs(expected).max()


def test_lite0_gives_the_features_of_the_verified_weights(lite0):
    # Computed when the network gave the golden features within 4e-6.
    stages = lite0(pattern(224, 224))
    block2b = [-10.4066, 21.5761, -6.99442, 5.41577, 5.42633, -2.91885]
    block5c = [1.0862, -1.05489, 7.11303, 4.85232, 19.8525, 3.36353]
    np.testing.assert_allclose(stages[3][0, 20, 30, :6], block2b, rtol=0, atol=4e-3)
    np.testing.assert_allclose(stages[6][0, 5, 9, :6], block5c, rtol=0, atol=4e-3)


def test_lite0_has_the_published_number_of_parameters(lite0):
    assert lite0.count_params() == 716_928
    trainable = sum(np.prod(v.shape) for v in lite0.trainable_variables)
    assert trainable == 700_768


# What the authors' network, converted to PyTorch, gives for `pattern`: six values each
# of stages 3 (row 20, column 30), 6 (5, 9) and 8 (3, 4).
GOLDEN = {
    "EfficientNetLite2": {
        3: [14.4747, -7.01594, -7.65194, -14.1917, 10.429, -7.46238],
        6: [-8.21945, 5.7227, 5.98704, 6.41291, -3.69297, 4.22398],
        8: [0.147667, 1.06345, -0.453842, 2.63123, 1.03435, -7.63944],
    },
}


@pytest.mark.parametrize(
    "name,variables,trained",
    [("EfficientNetLite2", 4_413_488, 4_357_952)],
)
def test_lite2_gives_the_golden_features(name, variables, trained):
    encoder = build_encoder(name, (224, 224), weights="imagenet", last_stage=8)
    model = features(encoder)
    assert model.count_params() == variables
    assert sum(np.prod(v.shape) for v in model.trainable_variables) == trained
    stages = model(pattern(224, 224))
    found = {3: stages[3][0, 20, 30], 6: stages[6][0, 5, 9], 8: stages[8][0, 3, 4]}
    # The largest values are 60, 28 and 11; the float16 kernels are behind stage 3.
    for stage, atol in {3: 2e-4, 6: 0.03, 8: 0.02}.items():
        expected = GOLDEN[name][stage]
        np.testing.assert_allclose(found[stage][:6], expected, rtol=0, atol=atol)


@pytest.mark.parametrize("last_stage", [6, 7, 8])
@pytest.mark.parametrize(
    "name", ["EfficientNetLite0", "EfficientNetLite2", "EfficientNetB0"]
)
def test_stages_are_the_last_outputs_of_their_size(name, last_stage):
    encoder = build_encoder(name, (64, 96), last_stage=last_stage)
    assert set(encoder.stages) == set(range(2, last_stage + 1))
    channels = {2: 16, 3: 24, 4: 40, 5: 80, 6: 112, 7: 192, 8: 320}
    if name == "EfficientNetLite2":
        channels |= {4: 48, 5: 88, 6: 120, 7: 208, 8: 352}
    for stage, output in encoder.stages.items():
        stride = backbones.STRIDES[stage]
        assert output.shape == (None, 64 // stride, 96 // stride, channels[stage])


def test_a_deeper_backbone_taps_the_last_block_of_each_stage():
    model = features(build_encoder("EfficientNetB3", (32, 32), drop_connect=0.0))
    last = ["block1b", "block2c", "block3c", "block4e", "block5e"]
    names = [model.get_layer(f"{block}_add").output for block in last]
    assert [id(x) for x in model.outputs] == [id(x) for x in names]
    assert not [layer for layer in model.layers if layer.name.startswith("block6")]


@pytest.fixture
def downloaded(monkeypatch) -> keras.Model:
    """What keras.applications gives for B0's ImageNet weights, without a network."""
    build = keras.applications.EfficientNetB0
    network = build(include_top=False, weights=None, input_shape=(64, 64, 3))
    random = np.random.default_rng(0)
    for variable in network.variables:
        if variable.name == "moving_variance" or variable.name == "gamma":
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
        elif variable.name in ("beta", "moving_mean", "bias"):
            variable.assign(0.1 * random.normal(size=variable.shape))

    def fake(*, include_top, weights, input_shape):
        assert not include_top
        assert weights == "imagenet"
        assert input_shape == (64, 64, 3)
        return network

    monkeypatch.setattr(keras.applications, "EfficientNetB0", fake)
    return network


def test_imagenet_weights_of_an_application_are_copied(downloaded):
    model = features(build_encoder("EfficientNetB0", (64, 64), weights="imagenet"))
    images = pattern(64, 64)
    mean, deviation = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    preprocessed = (images / 255 - mean) / deviation
    trunk = keras.Model(
        downloaded.get_layer("stem_conv_pad").input,
        [
            downloaded.get_layer(name).output
            for name in (
                "block1a_project_bn",
                "block2b_add",
                "block3b_add",
                "block4c_add",
                "block5c_add",
            )
        ],
    )
    for ours, theirs in zip(
        model(images).values(), trunk(preprocessed.astype("float32")), strict=True
    ):
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(ours / scale, theirs / scale, atol=2e-6)


def test_without_a_network_the_error_says_how_to_go_on(monkeypatch):
    def unreachable(**_):
        raise Exception("URL fetch failure on\nhttps://...: None -- no route")

    monkeypatch.setattr(keras.applications, "EfficientNetB1", unreachable)
    with pytest.raises(UserError, match="EfficientNetLite0") as raised:
        build_encoder("EfficientNetB1", (32, 32), weights="imagenet")
    message = str(raised.value)
    assert "EfficientNetB1" in message
    assert "no route" in message
    assert "~/.keras/models" in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["EfficientNetLite0", "EfficientNetB0"])
def test_drop_connect_grows_with_depth_and_can_be_left_out(name):
    model = features(build_encoder(name, (32, 32), drop_connect=0.22))
    rates = {
        layer.name: layer.rate
        for layer in model.layers
        if isinstance(layer, keras.layers.Dropout)
    }
    expected = {"2b": 2, "3b": 4, "4b": 6, "4c": 7, "5b": 9, "5c": 10}
    assert rates == pytest.approx(
        {f"block{block}_drop": 0.02 * index for block, index in expected.items()}
    )
    without = features(build_encoder(name, (32, 32), drop_connect=0.0))
    assert len(without.layers) == len(model.layers) - len(expected)
    assert all(
        variable.name != "seed_generator_state" for variable in without.variables
    )


def test_drop_connect_drops_whole_images():
    model = features(build_encoder("EfficientNetLite0", (32, 32), drop_connect=0.9))
    drop = model.get_layer("block5c_drop")
    dropped = drop(tf.ones([64, 2, 2, 3]), training=True).numpy().reshape(64, -1)
    assert np.unique(dropped).size == 2
    assert (dropped == dropped[:, :1]).all()


def test_building_leaves_keras_as_it_was():
    with backbones.dtype_scope("float64"):
        encoder = build_encoder("EfficientNetLite0", (32, 32))
    assert encoder.stages[6].dtype == "float64"
    assert keras.config.dtype_policy().name == "float32"


def test_an_unknown_stage_is_named():
    with pytest.raises(UserError, match="last_stage: .* received 9"):
        build_encoder("EfficientNetLite0", (32, 32), last_stage=9)


def test_an_unknown_backbone_is_named():
    with pytest.raises(UserError, match="ResNet50"):
        build_encoder("ResNet50", (32, 32))
