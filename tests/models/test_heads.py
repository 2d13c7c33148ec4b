"""Heads for another number of classes: what was learned stays, and classes part."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.errors import UserError
from efficientlab_tf.losses import Objective
from efficientlab_tf.metrics import confusion, predicted_masks
from efficientlab_tf.models import (
    build_model,
    convert_to_classes,
    decoder_mask,
    with_classes,
)
from efficientlab_tf.segmenters.gradient import AdaptFunctions
from efficientlab_tf.segmenters.inner_loop import InnerLoop
from efficientlab_tf.segmenters.network import Network, Weights, for_classes
from tests.models.tiny import tiny_network

SIZE = 32


def networks():
    return {
        "tiny": lambda classes: tiny_network(SIZE, classes, dropout=0.2),
        "meta_drn": lambda classes: build_model(
            "meta_drn", image_size=SIZE, num_classes=classes, width=0.05
        ),
        "efficientlab": lambda classes: build_model(
            "efficientlab",
            image_size=SIZE,
            num_classes=classes,
            backbone="EfficientNetLite0",
        ),
    }


@pytest.fixture(params=networks())
def build(request):
    keras.utils.set_random_seed(0)
    return networks()[request.param]


def probabilities(model):
    images = np.random.default_rng(0).uniform(0, 255, (2, SIZE, SIZE, 3))
    return tf.nn.softmax(model(images.astype(np.float32), training=False)).numpy()


def randomized(model):
    """Gives every weight another value: fresh heads are close to symmetric."""
    rng = np.random.default_rng(1)
    for variable in model.trainable_variables:
        size = max(float(np.abs(variable).mean()), 0.1)
        noise = rng.normal(0, 0.1 * size, variable.shape)
        variable.assign(variable.numpy() + noise.astype(np.float32))
    return model


def test_the_foreground_stays_as_probable(build):
    model = randomized(build(1))
    before = probabilities(model)
    assert before[..., 1].std() > 0.01
    for classes in (1, 2, 5):
        copy = with_classes(model, classes)
        after = probabilities(copy)
        assert copy.output_shape == (None, SIZE, SIZE, classes + 1)
        np.testing.assert_allclose(after[..., 0], before[..., 0], atol=1e-5)
        for channel in range(1, classes + 1):
            np.testing.assert_allclose(
                after[..., channel], before[..., 1] / classes, atol=1e-5
            )
    # The model itself is as it was.
    np.testing.assert_array_equal(probabilities(model), before)


def test_there_and_back(build):
    model = randomized(build(1))
    back = with_classes(with_classes(model, 3), 1)
    for a, b in zip(model.variables, back.variables, strict=True):
        if a.dtype == "float32":
            np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-6)


def test_a_copy_is_an_ordinary_model(build, tmp_path):
    copy, built = with_classes(randomized(build(2)), 3), build(3)
    assert [v.path for v in copy.trainable_variables] == [
        v.path for v in built.trainable_variables
    ]
    assert [v.shape for v in copy.trainable_variables] == [
        v.shape for v in built.trainable_variables
    ]
    copy.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(probabilities(loaded), probabilities(copy))
    assert decoder_mask(copy) == decoder_mask(built)


def test_rates_go_with_their_channels(build):
    model = build(1)
    rng = np.random.default_rng(0)
    rates = [rng.normal(size=v.shape) for v in model.trainable_variables]
    converted = convert_to_classes(rates, model, 2)
    copy = with_classes(model, 2)
    assert [r.shape for r in converted] == [v.shape for v in copy.trainable_variables]
    own, new = rates[-1].ravel(), converted[-1].ravel()
    assert new.tolist() == [x for x in new if x in own]
    per_step = [np.ones([4] + [1] * len(v.shape)) for v in model.trainable_variables]
    for a, b in zip(per_step, convert_to_classes(per_step, model, 2), strict=True):
        assert a is b


def test_a_network_without_convolutions():
    images = keras.Input((4, 4, 3))
    model = keras.Model(images, keras.layers.Dense(2)(images))
    with pytest.raises(UserError, match="expected a last convolution that makes the"):
        with_classes(model, 2)


def squares(count, seed):
    """Pictures with a red square (1) and a blue one (2) on grey noise."""
    rng = np.random.default_rng(seed)
    images = rng.integers(90, 160, (count, SIZE, SIZE, 3), np.uint8)
    masks = np.zeros((count, SIZE, SIZE), np.uint8)
    for image, mask in zip(images, masks, strict=True):
        for value, color in ((1, (230, 30, 30)), (2, (30, 30, 230))):
            top = rng.integers(0, SIZE - 10)
            left = rng.integers(0, SIZE // 2 - 10) + (value - 1) * SIZE // 2
            image[top : top + 10, left : left + 10] = color
            mask[top : top + 10, left : left + 10] = value
    return images, masks


def _adapt(network, weights, images, masks, steps):
    functions = AdaptFunctions(InnerLoop(network, Objective(l2=0.0)))
    segmenter = functions.segmenter(
        weights, learning_rate=0.1, steps=steps, batch_norm="support"
    )
    return segmenter.adapt(images, masks)


@pytest.mark.learned
def test_two_classes_part_in_a_few_steps():
    keras.utils.set_random_seed(7)
    network = Network(tiny_network(SIZE))
    images, masks = squares(6, 0)
    # What squares are is learned before, and here only which is which.
    both = _adapt(network, network.weights(), images, masks.clip(0, 1), 60)
    weights = Weights(both.weights.theta, both.weights.statistics)
    network, weights = for_classes(network, weights, 2)
    adapted = _adapt(network, weights, images, masks, 15)
    queries, truth = squares(6, 1)
    counts = confusion(truth, predicted_masks(adapted.predict(queries)), 2).sum(0)
    iou = np.diag(counts) / (counts.sum(0) + counts.sum(1) - np.diag(counts))
    assert iou[1:].min() > 0.7, iou
