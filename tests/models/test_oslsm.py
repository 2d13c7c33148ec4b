import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.errors import UserError
from efficientlab_tf.models import build_model, split, vgg
from efficientlab_tf.models.conditioned import SUPPORT_INPUTS, conditioning_mask
from efficientlab_tf.models.oslsm import WeightHashing
from tests.models.narrow import NARROW, random_inputs, without_memory
from tests.models.second_order import hessian_error

MEAN_BGR = np.array([103.939, 116.779, 123.68])


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def build(**options) -> keras.Model:
    """A narrow network whose random biases make every part of it count."""
    keras.utils.set_random_seed(0)
    options = {**NARROW, **options}
    if options.get("backbone", "VGG16") != "VGG16":
        del options["width"]
    model = build_model("oslsm", **options)
    random = np.random.default_rng(0)
    for variable in model.trainable_variables:
        if variable.name == "bias":
            variable.assign(random.normal(size=variable.shape))
    return model


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return build()


def guide_of(model: keras.Model, inputs: dict[str, tf.Tensor]) -> np.ndarray:
    guide_model, _ = split(model)
    return guide_model({name: inputs[name] for name in SUPPORT_INPUTS}).numpy()


def test_parameters_at_width_one():
    with without_memory():
        branches = [
            keras.Model(*vgg.vgg16_classifier(1000)).count_params(),
            keras.Model(*vgg.vgg16_fcn((224, 224))).count_params(),
        ]
        model = build_model("oslsm")
        assert model.count_params() == sum(branches) == 272_618_088
        assert model.get_layer("guide").output.shape == (None, 4097)
        trainable = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
        assert trainable == 272_618_088


def test_the_guide_is_vgg16_on_the_masked_image(network):
    inputs = random_inputs(2)
    images, masks = (inputs[f"support_{name}"].numpy() for name in ("images", "masks"))
    preprocessed = (images[..., ::-1] - MEAN_BGR) * (masks == 1)[..., None]
    resized = tf.image.resize(preprocessed, (224, 224)).numpy()
    classifier = keras.Model(*vgg.vgg16_classifier(1000, width=1 / 16))
    branch = {v.path: v for v in network.variables if "conditioning" in v.path}
    for variable in classifier.trainable_variables:
        variable.assign(branch[f"conditioning_{variable.path}"])
    # The classifier preprocesses for itself.
    hashed = classifier((resized + MEAN_BGR)[..., ::-1])
    expected = WeightHashing(257, 0)(hashed)
    guide = guide_of(network, inputs)
    np.testing.assert_allclose(guide, expected, rtol=1e-3, atol=1e-3)
    assert np.std(guide[0] - guide[1]) > 1e-2


def test_logits_are_a_logistic_regression_on_fc7(network):
    inputs = random_inputs(2, 2)
    fcn = keras.Model(*vgg.vgg16_fcn((64, 64), width=1 / 16))
    branch = {v.path: v for v in network.variables}
    for variable in fcn.trainable_variables:
        variable.assign(branch[f"segmentation_{variable.path}"])
    features = fcn(inputs["query_images"]).numpy()
    guide = guide_of(network, inputs)
    score = np.full([2, 64, 64], -np.inf)
    for *w, b in guide:
        low = np.sum(features * w, axis=-1) + b
        upsampled = tf.image.resize(low[..., None], (64, 64))[..., 0]
        score = np.maximum(score, upsampled)
    logits = network(inputs).numpy()
    np.testing.assert_allclose(logits[..., 1], score, rtol=1e-3, atol=1e-3)
    assert not logits[..., 0].any()
    assert score.std() > 1e-2


def test_shots_are_combined_by_or(network):
    inputs = random_inputs(4, 3)
    support = {name: inputs[name] for name in SUPPORT_INPUTS}

    def masks(guides):
        segment = {"guide": tf.constant(guides), "query_images": query}
        return tf.nn.softmax(segment_model(segment))[..., 1].numpy() > 0.5

    guide_model, segment_model = split(network)
    query = inputs["query_images"]
    guides = guide_model(support).numpy()
    # The classifiers of random weights agree; thresholds of their own part them.
    scores = segment_model({"guide": tf.constant(guides), "query_images": query})
    guides[:, -1] -= np.quantile(scores[..., 1], [0.3, 0.6, 0.9, 0.95])
    together = masks(guides)
    alone = [masks(guides[i : i + 1]) for i in range(4)]
    np.testing.assert_array_equal(together, np.logical_or.reduce(alone))
    assert 0 < alone[1].sum() < together.sum() < together.size
    # And the network as a whole does so.
    shots = [
        {**inputs, **{name: value[i : i + 1] for name, value in support.items()}}
        for i in range(4)
    ]
    best = np.max([network(shot)[..., 1] for shot in shots], axis=0)
    np.testing.assert_allclose(network(inputs)[..., 1], best, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backbone", ["VGG16", "EfficientNetLite0"])
def test_what_the_mask_hides_changes_nothing(backbone):
    model = build(backbone=backbone)
    inputs = random_inputs(2)
    masks = inputs["support_masks"].numpy()
    assert (masks == 255).any()
    noise = random_inputs(2, seed=1)["support_images"]
    shown = (masks == 1)[..., None]
    hidden = tf.where(shown, inputs["support_images"], noise)
    guide = guide_of(model, inputs)
    other = guide_of(model, {**inputs, "support_images": hidden})
    np.testing.assert_array_equal(other, guide)
    # Unknown is as good as background, and so is another class.
    for value in (0, 2):
        as_background = tf.constant(np.where(masks == 255, value, masks))
        other = guide_of(model, {**inputs, "support_masks": as_background})
        np.testing.assert_array_equal(other, guide)
    changed = tf.where(shown, noise, inputs["support_images"])
    other = guide_of(model, {**inputs, "support_images": changed})
    assert np.abs(other - guide).max() > 1e-3


def test_an_empty_mask_leaves_the_mean_colour():
    model = build()
    inputs = random_inputs(1)
    blank = {**inputs, "support_masks": tf.zeros([1, 64, 64])}
    mean = tf.fill([1, 64, 64, 3], 1.0) * MEAN_BGR[::-1].astype("float32")
    grey = {"support_images": mean, "support_masks": tf.ones([1, 64, 64])}
    np.testing.assert_array_equal(guide_of(model, blank), guide_of(model, grey))


@pytest.mark.parametrize(
    "options,cells,channels",
    [
        ({}, 2, 256),
        ({"dilated": True}, 8, 256),
        ({"backbone": "EfficientNetLite0", "hashed": 30}, 4, 112),
    ],
    ids=["stride32", "stride8", "lite0"],
)
def test_sizes_of_the_features(options, cells, channels):
    model = build(**options)
    features, score = (
        model.get_layer("scores").input[1],
        model.get_layer("scores").output,
    )
    assert features.shape == (None, cells, cells, channels)
    assert score.shape == (None, cells, cells, None)
    hashed = model.get_layer("conditioning_encoder").get_layer("conditioning_fc8").units
    assert hashed == options.get("hashed", 1000)
    assert guide_of(model, random_inputs(2)).shape == (2, channels + 1)
    # Dilation is for the segmentation branch.
    encoder = model.get_layer("conditioning_encoder")
    rates = {getattr(x, "dilation_rate", (1, 1)) for x in encoder.layers}
    assert rates == {(1, 1)}


def test_at_224_the_support_is_not_resized():
    names = [layer.name for layer in build(image_size=224).layers]
    assert "conditioning_resize" not in names
    assert "conditioning_resize" in [layer.name for layer in build().layers]


@pytest.mark.parametrize("backbone", ["VGG16", "EfficientNetLite0"])
def test_branches_are_told_by_what_they_see(backbone):
    model = build(backbone=backbone)
    branches = {
        (variable.path.split("_")[0], conditioning)
        for variable, conditioning in zip(
            model.trainable_variables, conditioning_mask(model), strict=True
        )
    }
    assert branches == {("conditioning", True), ("segmentation", False)}
    with pytest.raises(UserError, match="expected a conditioning branch"):
        conditioning_mask(build_model("siamese", **NARROW))


def test_both_branches_start_from_imagenet():
    model = build_model(
        "oslsm", image_size=32, backbone="EfficientNetLite0", weights="imagenet"
    )
    first, second = (
        model.get_layer(f"{branch}_encoder").get_layer(f"{branch}_stem_conv").kernel
        for branch in ("conditioning", "segmentation")
    )
    np.testing.assert_array_equal(first, second)
    assert first is not second


def test_the_hashing_is_of_the_seed_and_saved_with_it(network, tmp_path):
    inputs = random_inputs()
    other = build(hash_seed=1)
    other.set_weights(network.get_weights())
    guide = guide_of(other, inputs)
    assert np.any(guide != guide_of(network, inputs))
    other.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.get_layer("conditioning_hashing").seed == 1
    assert not loaded.get_layer("conditioning_hashing").weights
    np.testing.assert_array_equal(guide_of(loaded, inputs), guide)


def test_gradient_is_that_of_finite_differences():
    model = build(image_size=32, hashed=10, dropout=0.0, dtype="float64")
    inputs = random_inputs(2, 2, size=32, dtype="float64")
    theta = [tf.convert_to_tensor(v) for v in model.trainable_variables]
    labels = tf.constant(np.random.default_rng(0).integers(0, 2, [2, 32, 32]))

    @tf.function
    def loss(theta):
        logits, _ = model.stateless_call(theta, [], inputs, training=True)
        return tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        )

    with tf.GradientTape() as tape:
        tape.watch(theta)
        value = loss(theta)
    gradient = tape.gradient(value, theta)
    random = np.random.default_rng(1)
    for branch in ("conditioning", "segmentation"):
        direction = [
            random.normal(size=v.shape) * v.path.startswith(branch)
            for v in model.trainable_variables
        ]
        ahead, behind = (
            loss([t + sign * 1e-7 * d for t, d in zip(theta, direction, strict=True)])
            for sign in (1, -1)
        )
        difference = (ahead - behind) / 2e-7
        slope = sum(
            tf.reduce_sum(g * d) for g, d in zip(gradient, direction, strict=True)
        )
        np.testing.assert_allclose(slope, difference, rtol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"image_size": 500},
        {"backbone": "LeNet"},
        {"weights": "coco"},
        {"width": -1.0},
        {"width": 0.5, "weights": "imagenet"},
        {"dilated": True, "backbone": "EfficientNetB0"},
        {"hashed": 0},
        {"hashed": 2.5},
        {"hash_seed": -1},
        {"dropout": -0.5},
        {"dtype": "bfloat16"},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_an_impossible_option_is_named(options):
    (name, value), *_ = options.items()
    with pytest.raises(UserError) as raised:
        build_model("oslsm", **options)
    message = str(raised.value)
    assert message.startswith(f"`{name}` must be ")
    assert message.endswith(f"received {value!r}")
    assert "\n" not in message


@pytest.mark.parametrize("inputs,outputs,seed", [(1000, 4097, 0), (7, 40, 3)])
def test_weight_hashing_is_the_matrix_of_the_supplement(inputs, outputs, seed):
    layer = WeightHashing(outputs, seed, dtype="float64")
    # Its answers to unit vectors are the columns of W.
    matrix = layer(np.eye(inputs)).numpy().T
    sources, signs = np.abs(matrix).argmax(axis=1), matrix.sum(axis=1)
    explicit = np.zeros([outputs, inputs])
    for i in range(outputs):
        for j in range(inputs):
            explicit[i, j] = signs[i] * (sources[i] == j)  # S3
    np.testing.assert_array_equal(matrix, explicit)
    assert set(signs) == {-1, 1}
    x = normal(5, inputs)
    np.testing.assert_allclose(layer(x), x @ explicit.T, atol=1e-14)  # S1
    assert not layer.weights
    # Uniform sources and signs: within five standard deviations.
    assert abs(signs.mean()) < 5 / np.sqrt(outputs)
    deviation = inputs / np.sqrt(12 * outputs)
    assert abs(sources.mean() - (inputs - 1) / 2) < 5 * deviation


def test_weight_hashing_is_a_function_of_its_seed_for_ever():
    def rule(seed):
        return (
            WeightHashing(8, seed)(np.eye(100)).numpy() * np.arange(100)[:, None]
        ).sum(0)

    # Philox with key 0 begins 0x02f4ba6408e4d89b, 0x3dd62b0b9ca8c5b2, ...
    np.testing.assert_array_equal(rule(0), [-59, 58, 49, 56, 3, -25, -67, -96])
    assert np.any(rule(1) != rule(0))
    layer = WeightHashing(8, 5)
    copy = WeightHashing.from_config(layer.get_config())
    x = normal(2, 100)
    np.testing.assert_array_equal(copy(x), layer(x))


def test_second_derivative_of_weight_hashing():
    layer = WeightHashing(20, dtype="float64")
    weights = tf.constant(normal(3, 20, seed=1))

    def loss(at):
        return tf.reduce_sum(weights * tf.sin(layer(at[0])))

    assert hessian_error(loss, [tf.constant(normal(3, 6))]) < 1e-8
