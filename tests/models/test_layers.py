import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientlab_tf.errors import UserError
from efficientlab_tf.models import layers
from efficientlab_tf.models.layers import (
    BatchNormalization,
    Resize,
    batch_statistics,
)
from tests.models.second_order import (
    gradient,
    hessian_error,
    hessian_vector_product,
)
from tests.models.tiny import tiny_network


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


SIZES = [
    ((4, 4), (8, 8)),
    ((7, 5), (21, 15)),
    ((14, 14), (56, 56)),
    ((6, 10), (17, 3)),
    ((1, 3), (5, 1)),
    ((2, 2), (2, 2)),
]


@pytest.mark.parametrize("source,target", SIZES)
@pytest.mark.parametrize("align_corners", [False, True])
def test_resize_equals_tensorflows(source, target, align_corners):
    x = tf.random.stateless_uniform([2, *source, 3], seed=[1, 2])
    if align_corners:
        expected = tf.compat.v1.image.resize_bilinear(x, target, align_corners=True)
    else:
        expected = tf.image.resize(x, target)
    resized = Resize(*target, align_corners=align_corners)(x)
    # TensorFlow computes the positions in float32, which costs it some 1e-7 a pixel.
    np.testing.assert_allclose(resized, expected, atol=2e-6)


def test_resize_differentiates_through_jit_as_without():
    layer = Resize(9, 6, dtype="float64")
    x = [tf.constant(normal(1, 3, 2, 2))]
    weights = tf.constant(normal(1, 9, 6, 2, seed=1))

    def loss(at):
        return tf.reduce_sum(weights * tf.sin(layer(at[0])))

    def product():
        return hessian_vector_product(loss, x, [weights[:, :3, :2]])[0]

    np.testing.assert_allclose(
        tf.function(product, jit_compile=True)(), product(), atol=1e-12
    )


def batch_norms(dtype: str, channels: int):
    """Our layer and Keras's with the same, non-trivial variables."""
    ours, kerass = (
        BatchNormalization(dtype=dtype),
        keras.layers.BatchNormalization(dtype=dtype),
    )
    for layer in ours, kerass:
        layer.build((None, None, None, channels))
        layer.set_weights(
            [
                0.5 + normal(channels, seed=1) ** 2,
                normal(channels, seed=2),
                normal(channels, seed=3),
                0.5 + normal(channels, seed=4) ** 2,
            ]
        )
    return ours, kerass


@pytest.mark.parametrize("dtype,tolerance", [("float32", 2e-6), ("float64", 1e-14)])
@pytest.mark.parametrize("training", [False, True])
def test_batch_normalization_equals_kerass(dtype, tolerance, training):
    ours, kerass = batch_norms(dtype, 5)
    x = tf.constant(3 * normal(4, 6, 7, 5, seed=5) + 2, dtype)
    output = ours(x, training=training)
    assert output.dtype == dtype
    np.testing.assert_allclose(
        output, kerass(x, training=training), rtol=tolerance, atol=tolerance
    )
    for our, their in zip(ours.get_weights(), kerass.get_weights(), strict=True):
        np.testing.assert_allclose(our, their, rtol=tolerance, atol=tolerance)


def test_batch_normalization_of_a_single_value_is_finite():
    layer = BatchNormalization()
    np.testing.assert_array_equal(
        layer(tf.fill([1, 1, 1, 2], 7.0), training=True), np.zeros([1, 1, 1, 2])
    )
    assert np.isfinite(layer.moving_variance.numpy()).all()


def test_batch_normalization_keeps_a_small_variance_beside_a_large_mean():
    x = (1000 + 0.1 * normal(8, 16, 16, 1)).astype("float32")
    layer = BatchNormalization(epsilon=1e-6, momentum=0.0)
    layer(x, training=True)
    exact = x.astype("float64").var()
    np.testing.assert_allclose(layer.moving_variance.numpy(), [exact], rtol=1e-3)


def test_frozen_batch_normalization_uses_its_moving_averages():
    layer, _ = batch_norms("float32", 3)
    x = tf.constant(normal(2, 4, 4, 3), tf.float32)
    expected = layer(x, training=False)
    layer.trainable = False
    np.testing.assert_array_equal(layer(x, training=True), expected)


@pytest.mark.parametrize(
    "arguments", [{"axis": 1}, {"synchronized": True}], ids=["axis", "synchronized"]
)
def test_batch_normalization_refuses_what_it_does_not_do(arguments):
    layer = BatchNormalization(**arguments)
    with pytest.raises(UserError, match=layer.name):
        layer.build((None, 4, 4, 3))


@pytest.mark.parametrize("jit", [False, True])
def test_fused_batch_normalization_has_the_derivatives_of_the_formula(jit):
    scale = np.array([1.0, 0.3, 5.0])
    at = [
        scale * normal(4, 6, 5, 3) + [0.5, -2, 20],
        0.5 + normal(3, seed=1) ** 2,
        normal(3, seed=2),
    ]
    vector = [normal(*np.shape(x), seed=3 + i) for i, x in enumerate(at)]
    target = normal(4, 6, 5, 3, seed=6)

    def derivatives(normalize, dtype):
        def loss(at):
            y, _, _ = normalize(*at, 1e-3)
            return tf.reduce_sum((y - tf.constant(target, dtype)) ** 4)

        def both():
            point = [tf.constant(x, dtype) for x in at]
            direction = [tf.constant(x, dtype) for x in vector]
            return (
                gradient(loss, point),
                hessian_vector_product(loss, point, direction),
            )

        return tf.function(both, jit_compile=jit)()

    fused = derivatives(layers._normalize_fused, "float32")
    exact = derivatives(layers._normalize, "float64")
    for order in range(2):
        for ours, truth in zip(fused[order], exact[order], strict=True):
            np.testing.assert_allclose(
                ours, truth, atol=1e-5 * np.abs(truth).max(), rtol=0
            )


def test_batch_statistics_uses_and_returns_the_batchs_without_dropout():
    model = tiny_network(dropout=0.5)
    images = tf.constant(normal(3, 32, 32, 3) * 60 + 120, tf.float32)
    theta = [tf.convert_to_tensor(v) for v in model.trainable_variables]
    state = [tf.convert_to_tensor(v) for v in model.non_trainable_variables]
    without_dropout = tiny_network(dropout=0.0)
    without_dropout.set_weights(model.get_weights())
    expected = without_dropout(images, training=True)
    with batch_statistics(momentum=0.0):
        logits, new_state = model.stateless_call(theta, state, images, training=False)
    np.testing.assert_allclose(logits, expected, atol=1e-6)
    stem = keras.Model(model.input, model.get_layer("stem").output)(images)
    np.testing.assert_allclose(new_state[0], tf.reduce_mean(stem, [0, 1, 2]), atol=1e-6)
    np.testing.assert_allclose(
        new_state[1], tf.math.reduce_variance(stem, [0, 1, 2]), rtol=1e-5
    )
    # Those averages are what inference needs to give the same output again.
    again, _ = model.stateless_call(theta, new_state, images, training=False)
    np.testing.assert_allclose(again, logits, atol=1e-4)


def test_batch_statistics_ends_with_its_block_and_nests():
    layer, kerass = batch_norms("float32", 2)
    x = tf.constant(normal(2, 4, 4, 2), tf.float32)
    inference = kerass(x, training=False)
    average, mean = layer.moving_mean.numpy(), tf.reduce_mean(x, [0, 1, 2])
    with pytest.raises(RuntimeError, match="inside"), batch_statistics(momentum=0.5):
        with batch_statistics(momentum=1.0):
            layer(x, training=False)
        np.testing.assert_allclose(layer.moving_mean.numpy(), average)
        layer(x, training=False)
        np.testing.assert_allclose(
            layer.moving_mean.numpy(), (average + mean) / 2, atol=1e-6
        )
        raise RuntimeError("inside")
    layer, _ = batch_norms("float32", 2)
    np.testing.assert_allclose(layer(x, training=False), inference, atol=1e-6)


def excite(x):
    return x * tf.sigmoid(tf.reduce_mean(x, [1, 2], keepdims=True))


LAYERS = {
    "resize": Resize(9, 5),
    "resize_align_corners": Resize(12, 8, align_corners=True),
    "resize_down": Resize(2, 3),
    "batch_normalization": BatchNormalization(),
    "conv_strided": keras.layers.Conv2D(4, 3, strides=2, padding="same"),
    "conv_dilated": keras.layers.Conv2D(4, 3, dilation_rate=2, padding="same"),
    "depthwise_strided": keras.layers.DepthwiseConv2D(3, strides=2, padding="same"),
    "padding": keras.layers.ZeroPadding2D(((0, 1), (1, 1))),
    "swish": keras.layers.Activation("swish"),
    "relu6": keras.layers.ReLU(6.0),
    "squeeze_and_excite": keras.layers.Lambda(excite),
    "global_pooling": keras.layers.GlobalAveragePooling2D(keepdims=True),
    "nearest_upsampling": keras.layers.UpSampling2D((2, 3)),
    "softmax": keras.layers.Softmax(),
}


@pytest.mark.parametrize("name", LAYERS)
def test_second_derivative_in_inputs_and_weights(name):
    config = {**LAYERS[name].get_config(), "dtype": "float64"}
    config.pop("function", None)
    extra = {"function": excite} if name == "squeeze_and_excite" else {}
    layer = type(LAYERS[name])(**config, **extra)
    x = tf.constant(normal(2, 6, 4, 3))
    layer.build(x.shape)
    training = {"training": True} if isinstance(layer, BatchNormalization) else {}
    weights = [v + 0.3 * normal(*v.shape) for v in layer.trainable_variables]
    state = list(layer.non_trainable_variables)
    scale = None

    def loss(at):
        nonlocal scale
        y, _ = layer.stateless_call(at[1:], state, at[0], **training)
        if scale is None:
            scale = tf.constant(normal(*y.shape, seed=1))
        return tf.reduce_sum(tf.sin(scale * y) * scale)

    assert hessian_error(loss, [x, *weights]) < 1e-7


def test_the_check_of_second_derivatives_sees_a_stopped_mean():
    x = tf.constant(normal(2, 6, 4, 3))

    def loss(at):
        mean = tf.reduce_mean(at[0], [0, 1, 2])
        variance = tf.reduce_mean((at[0] - tf.stop_gradient(mean)) ** 2, [0, 1, 2])
        return tf.reduce_sum(tf.sin((at[0] - mean) * tf.math.rsqrt(variance)))

    assert hessian_error(loss, [x]) > 1e-3
