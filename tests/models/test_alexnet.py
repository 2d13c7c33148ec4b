"""AlexNet against its definition, written out in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.errors import UserError
from efficientlab_tf.models import alexnet, build_model
from efficientlab_tf.models.alexnet import GroupedConv2D, LocalResponseNormalization
from efficientlab_tf.models.features import dense_features

WIDTH = 1 / 16


def test_groups_see_their_own_channels():
    layer = GroupedConv2D(6, 3, padding="same", groups=2)
    x = np.random.default_rng(0).normal(size=(1, 5, 5, 4)).astype(np.float32)
    whole = layer(x).numpy()
    for group, (first, last) in enumerate(((0, 3), (3, 6))):
        kernel = layer.kernel.numpy()[..., first:last]
        part = tf.nn.conv2d(x[..., 2 * group : 2 * group + 2], kernel, 1, "SAME")
        np.testing.assert_allclose(whole[..., first:last], part, atol=1e-5)


def test_local_response_normalization_is_that_of_tensorflow():
    x = 30 * np.random.default_rng(0).normal(size=(2, 3, 3, 8)).astype(np.float32)
    options = {"depth_radius": 2, "bias": 1.0, "alpha": 1e-4 / 5, "beta": 0.75}
    expected = tf.nn.local_response_normalization(x, **options)
    np.testing.assert_allclose(LocalResponseNormalization()(x), expected, rtol=1e-4)


def test_number_of_parameters_and_strides():
    # Krizhevsky et al. write of 60 million.
    count = keras.Model(*alexnet.alexnet_classifier(1000)).count_params()
    assert count == 60_965_224
    network = keras.Model(*alexnet.alexnet_fcn((64, 96), width=WIDTH))
    assert network.output_shape == (None, 2, 3, 256)


def test_weights_of_a_file(tmp_path):
    path = str(tmp_path / "alexnet.npz")
    source = keras.Model(*alexnet.alexnet_classifier(7, width=WIDTH))
    arrays = {f"{x.name}/{v.name}": v.numpy() for x in source.layers for v in x.weights}
    np.savez(path, **arrays)
    options = {"width": WIDTH, "weights": path, "prefix": "own_"}
    same = keras.Model(*alexnet.alexnet_classifier(7, **options))
    images = np.random.default_rng(0).integers(0, 256, (1, 227, 227, 3))
    images = images.astype(np.float32)
    np.testing.assert_allclose(same(images), source(images), atol=1e-5)
    # Another number of classes starts from a random fc8; fc6 and fc7 are there.
    other = keras.Model(*alexnet.alexnet_classifier(5, **options))
    kernel = other.get_layer("own_fc7").kernel
    np.testing.assert_array_equal(kernel, source.get_layer("fc7").kernel)
    network = keras.Model(*dense_features("AlexNet", 64, path, width=WIDTH))
    kernel = network.get_layer("conv2").kernel
    np.testing.assert_array_equal(kernel, source.get_layer("conv2").kernel)
    del arrays["conv5/kernel"]
    np.savez(path, **arrays)
    with pytest.raises(UserError, match="expected conv5/kernel of .* received None"):
        alexnet.alexnet_fcn((64, 64), width=WIDTH, weights=path)
    with pytest.raises(UserError, match="`weights` must be an .npz file or none"):
        alexnet.alexnet_fcn((64, 64), weights="imagenet")


@pytest.mark.parametrize("name", ["oslsm", "fcn", "guided", "siamese"])
def test_networks_on_alexnet(name):
    network = build_model(name, backbone="AlexNet", width=WIDTH, image_size=64)
    pictures = np.zeros((1, 64, 64, 3), np.float32)
    inputs = pictures
    if isinstance(network.input, dict):
        masks = np.ones((1, 64, 64), np.float32)
        inputs = {"support_images": pictures, "support_masks": masks}
        inputs |= {"query_images": pictures}
    assert network(inputs).shape == (1, 64, 64, 2)
    with pytest.raises(UserError, match="`weights` must be an .npz file or none"):
        build_model(name, backbone="AlexNet", weights="imagenet", image_size=64)
