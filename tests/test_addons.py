"""What TensorFlow Addons computed, and what stands in its place here.

Its vectors, tests/addons.npz, are made by tools/addons_parity/make_vectors.py. The
amounts that it was given are given to the augmentations as if they had been drawn.
"""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.data import geometry
from efficientlab_tf.data.augment import Augmenter
from efficientlab_tf.learners.meta_optimizer import meta_optimizer

SEED = (7, 11)


@pytest.fixture(scope="module")
def addons():
    with np.load(Path(__file__).parent / "addons.npz") as vectors:
        return dict(vectors)


def draws(monkeypatch, layer, **drawn):
    """Makes a layer of Keras's draw these changes."""
    monkeypatch.setattr(layer, "get_random_transformation", lambda *_, **__: drawn)


def test_translation(addons, monkeypatch):
    draws(monkeypatch, keras.layers.RandomTranslation, translations=addons["shifts"])
    augmenter = Augmenter(1.0, names=["translation"])
    images, masks = augmenter(addons["images"], addons["masks"], SEED)
    assert not np.array_equal(masks[1:], addons["masks"][1:])
    np.testing.assert_array_equal(images, addons["translated"][..., :3])
    np.testing.assert_array_equal(masks, addons["translated"][..., 3])


def test_rotation(addons):
    # Addons fills with black unless asked; here, and in these vectors, lies the mirror
    # image. Of its interpolations images get bilinear and masks nearest.
    images, masks = geometry.resample(
        addons["images"].astype(np.float32),
        addons["masks"],
        geometry.rotation(addons["degrees"]),
    )
    np.testing.assert_allclose(images, addons["rotated_images"], atol=0.01)
    np.testing.assert_array_equal(masks, addons["rotated_masks"])
    np.testing.assert_array_equal(masks[0], addons["masks"][0])
    assert not np.array_equal(masks[1:], addons["masks"][1:])


def test_erasing(addons, monkeypatch):
    # Addons cuts out rectangles of one size and fills them with one colour; here sizes
    # are drawn and colours random (Zhong et al. 2017). Where the rectangles lie alike,
    # the masks are the same, and the images outside of the rectangles.
    erased = addons["cut"][..., 3:] == 0
    assert np.all(erased.sum((1, 2, 3)) == 6 * 10)
    draws(monkeypatch, keras.layers.RandomErasing, batch_masks=erased)
    augmenter = Augmenter(1.0, names=["erasing"])
    images, masks = augmenter(addons["images"], addons["masks"], SEED)
    np.testing.assert_array_equal(masks, addons["cut"][..., 3])
    np.testing.assert_array_equal(np.where(erased, 0, images), addons["cut"][..., :3])
    assert np.mean(images.numpy()[erased[..., 0]] > 0) > 0.9


def test_adamw(addons):
    # Keras multiplies the decay of weights by the learning rate; Addons did not.
    decay = float(addons["weight_decay"])
    variable = keras.Variable(addons["start"])
    optimizer = meta_optimizer("adamw", [variable], 1.0, weight_decay=decay)
    theta, slots = (tf.constant(addons["start"]),), optimizer.init()
    steps = zip(addons["rates"], addons["gradients"], addons["adamw"], strict=True)
    for rate, gradient, expected in steps:
        theta, slots = optimizer.apply(theta, (-gradient,), slots, rate)
        np.testing.assert_allclose(theta[0], expected, rtol=1e-5, atol=1e-6)


def test_moving_average(addons):
    weights = keras.Variable(addons["start"])
    optimizer = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9)
    optimizer.build([weights])
    averages, after_first = [], None
    for gradient in addons["gradients"]:
        optimizer.apply([tf.constant(gradient)], [weights])
        after_first = weights.numpy() if after_first is None else after_first
        trained = weights.numpy()
        optimizer.finalize_variable_values([weights])
        averages.append(weights.numpy())
        weights.assign(trained)
    np.testing.assert_allclose(averages, addons["averages_from_1"], atol=1e-6)
    # Keras's average starts at the weights after the first step, that of Addons, unless
    # told otherwise, at those before it.
    faded = 0.9 ** np.arange(1, len(averages) + 1)[:, np.newaxis, np.newaxis]
    expected = averages + faded * (addons["start"] - after_first)
    np.testing.assert_allclose(expected, addons["averages_from_0"], atol=1e-6)
