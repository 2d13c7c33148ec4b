"""Features of pictures, labels at their resolution, and the way back."""

import functools

import keras
import numpy as np
import pytest

from efficientlab_tf.errors import UserError
from efficientlab_tf.models import efficientlab, fcn
from efficientlab_tf.models.backbones import build_encoder
from efficientlab_tf.segmenters.baselines import (
    FeatureExtractor,
    features,
    labels,
    upsample,
)
from tests.models.tiny import tiny_network
from tests.segmenters.extractors import tiny_model

# Features, labels, and the way back.


def test_features_are_the_stages_of_the_encoder(lite0):
    images = np.random.default_rng(0).integers(0, 256, (3, 160, 160, 3), np.uint8)
    encoder = build_encoder("EfficientNetLite0", (160, 160), 0.0, "imagenet")
    network = keras.Model(encoder.images, encoder.stages)
    stages = network(images.astype(np.float32), training=False)
    fine, coarse = (np.asarray(stages[s], np.float64) for s in (4, 6))
    coarse = np.asarray(keras.ops.image.resize(coarse, (20, 20), "bilinear"))
    both = [x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (fine, coarse)]
    features = lite0(images)
    assert features.dtype == np.float32
    assert (lite0.grid, lite0.channels) == ((20, 20), 152)
    np.testing.assert_allclose(features, np.concatenate(both, -1), atol=1e-5)
    np.testing.assert_allclose(lite0(images.astype(np.float64)), features, atol=1e-6)
    plain = FeatureExtractor(image_size=160, stages=6, normalize=False)
    scale = np.abs(stages[6]).max()
    np.testing.assert_allclose(plain(images), stages[6], atol=1e-5 * scale)


def test_features_of_a_network_are_those_of_its_encoder():
    network = efficientlab(
        image_size=64, backbone="EfficientNetLite0", weights="imagenet"
    )
    of_network = FeatureExtractor.of_network(network, (3, 4, 6))
    of_name = FeatureExtractor(image_size=64, stages=(3, 4, 6))
    by_layer = FeatureExtractor.of_network(
        network, ("block2b_add", "block3b_add", "block5c_add"), batch=1
    )
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    assert of_network.grid == (16, 16)
    np.testing.assert_allclose(of_network(images), of_name(images), atol=1e-5)
    np.testing.assert_allclose(of_network(images), by_layer(images), atol=1e-5)
    # Shared, not copied: what is learned later is seen.
    before = of_network(images)
    stem = network.get_layer("stem_conv").kernel
    stem.assign(2 * stem)
    assert np.abs(of_network(images) - before).max() > 1e-3


def test_features_do_not_depend_on_the_batch(task):
    images = np.concatenate([task[0], task[2]])
    whole = FeatureExtractor(tiny_model(), batch=7)(images)
    for batch in (1, 3):
        parts = FeatureExtractor(tiny_model(), batch=batch)(images)
        np.testing.assert_allclose(parts, whole, atol=1e-6)
    assert FeatureExtractor(tiny_model())(images[:0]).shape == (0, 16, 16, 12)


def test_a_model_of_any_size_takes_that_of_the_extractor():
    images = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, strides=4, padding="same")(images)
    model = keras.Model(images, {"a": x, "b": keras.layers.AveragePooling2D(2)(x)})
    extractor = FeatureExtractor(model, (32, 48))
    assert (extractor.grid, extractor.channels) == ((8, 12), 8)
    assert extractor(np.zeros((1, 32, 48, 3), np.uint8)).shape == (1, 8, 12, 8)
    with pytest.raises(
        UserError, match="takes images of any size; expected image_size"
    ):
        FeatureExtractor(model)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "VGG99"}, "`backbone` must be one of"),
        ({"stages": 9}, "stages: expected some of"),
        ({"stages": ()}, "stages: expected some of"),
        ({"image_size": 100}, "divisible by 32"),
        ({"weights": "mine"}, 'expected None or "imagenet"'),
        ({"batch": 0}, "batch: expected at least 1"),
        ({"backbone": tiny_network(32), "image_size": 64}, "built for; received"),
        (
            {
                "backbone": keras.Sequential(
                    [keras.Input((8, 8, 3)), keras.layers.Flatten()]
                )
            },
            "expected features",
        ),
        (
            {"backbone": keras.Sequential([keras.Input((9,)), keras.layers.Dense(1)])},
            "expected one input of images",
        ),
    ],
)
def test_an_extractor_that_cannot_be_built(arguments, message):
    with pytest.raises(UserError, match=message):
        FeatureExtractor(**arguments)


def test_an_unknown_layer_or_stage():
    for layer in ("fc7", 4):
        with pytest.raises(UserError, match=f"{layer!r}, found none; .* decoder_bn"):
            FeatureExtractor.of_network(tiny_network(32), layer)


def test_labels_are_the_majority_of_the_known_pixels():
    rng = np.random.default_rng(3)
    # Large patches of equal labels, so that no label of an image needs a rescue.
    masks = rng.choice([0, 1, 3, 255], (4, 5, 5)).astype(np.uint8)
    masks = masks.repeat(10, 1).repeat(8, 2)
    masks[rng.random(masks.shape) < 0.2] = 255
    for height, width in (10, 10), (7, 9), (50, 40):
        found = labels(masks, height, width)
        assert found.dtype == np.uint8
        for k, i, j in np.ndindex(4, height, width):
            # Pixel y is in cell floor(y h / H).
            rows = [y for y in range(50) if y * height // 50 == i]
            columns = [x for x in range(40) if x * width // 40 == j]
            known = masks[k][np.ix_(rows, columns)]
            known = known[known != 255]
            expected = np.bincount(known).argmax() if len(known) else 255
            assert found[k, i, j] == expected


def test_no_label_vanishes_at_the_resolution_of_features():
    masks = np.zeros((3, 16, 16), np.uint8)
    masks[0, 0, :2] = 1  # Two of 16 pixels of a cell ...
    masks[0, 9, 8:11] = 1  # ... and three of another, which wins.
    masks[1, 4:8, 4:8] = 1  # Has the majority: nothing to rescue.
    masks[1, 0, 0] = 1
    masks[2, :8] = 255
    masks[2, 8:, :] = 1
    masks[2, 12, 12] = 0  # The background does not vanish either.
    masks[2, 0, 0] = 2  # The only known pixel of its cell.
    found = labels(masks, 4, 4)
    assert np.argwhere(found[0]).tolist() == [[2, 2]]
    assert np.argwhere(found[1]).tolist() == [[1, 1]]
    assert np.argwhere(found[2] == 0).tolist() == [[3, 3]]
    assert found[2, 0].tolist() == [2, 255, 255, 255]
    for mask, cells in zip(masks, found, strict=True):
        np.testing.assert_array_equal(labels(mask[np.newaxis], 4, 4)[0], cells)


def test_a_rescue_does_not_take_the_last_cell_of_another():
    masks = np.zeros((1, 8, 8), np.uint8)
    masks[0, :2, :4] = 1  # Ties with 0 in its cell and loses; 2 has less of it.
    masks[0, 2:4, 0] = 2
    masks[0, 0, 4] = 2
    found = labels(masks, 2, 2)[0]
    assert found.tolist() == [[1, 2], [0, 0]]
    assert (labels(np.full((1, 8, 8), 255, np.uint8), 2, 2) == 255).all()
    with pytest.raises(UserError, match="at least 9 x 2 pixels"):
        labels(masks, 9, 2)


def test_upsampling_is_that_of_half_pixel_centres():
    scores = np.random.default_rng(0).random((2, 5, 7, 3), np.float32)
    expected = keras.ops.image.resize(scores, (40, 21), "bilinear")
    result = upsample(scores, (40, 21))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_networks_with_vgg_give_their_fc7(monkeypatch):
    network = fcn(image_size=32, width=1 / 16)
    extractor = FeatureExtractor.of_network(network, normalize=False)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    expected = keras.Model(network.inputs, network.get_layer("fc7").output)(
        images.astype(np.float32), training=False
    )
    assert extractor.channels == 256
    np.testing.assert_allclose(extractor(images), expected, atol=1e-5)
    # By name the backbone has its full width, which is too large for a test.
    narrow = functools.partial(features.dense_features, width=1 / 16)
    monkeypatch.setattr(features, "dense_features", narrow)
    named = FeatureExtractor("VGG16", 64, weights=None)
    assert named.grid == (2, 2) and named.channels == 256
