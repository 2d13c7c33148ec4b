"""The Hessian of w -> cross-entropy(operation(x w)): the tape's beside differences."""

import keras
import numpy as np
import tensorflow as tf

keras.config.set_floatx("float64")
L, random, axes = keras.layers, np.random.default_rng(0), [0, 1, 2]
x = tf.constant(random.normal(1.0, 1.0, [5, 8, 8, 6]))
w, step = tf.constant(random.normal(0.0, [[[1.0]], [[1e-5]]], [2, 6, 4]))
up = tf.cast(tf.image.resize(tf.eye(8)[..., None], [16, 8])[..., 0], "float64")
OPERATIONS = {
    "tf.image.resize, bilinear": lambda y: tf.image.resize(y, [16, 16]),
    "UpSampling2D, bilinear": L.UpSampling2D(interpolation="bilinear"),
    "BatchNormalization, training": lambda y: L.BatchNormalization()(y, training=True),
    "LayerNormalization": L.LayerNormalization(),
    "tf.nn.moments": lambda y: y * tf.math.rsqrt(tf.nn.moments(y, axes)[1]),
    "reduce_variance": lambda y: y * tf.math.rsqrt(tf.math.reduce_variance(y, axes)),
    "matrix products": lambda y: tf.einsum("ah,bw,nhwc->nabc", up, up, y),
    "Conv2D": L.Conv2D(4, 3),
    "swish": tf.nn.silu,
    "softmax cross-entropy alone": tf.identity,
}


def gradient(operation, w):
    with tf.GradientTape() as tape:
        tape.watch(w)
        loss = -tf.nn.log_softmax(operation(x @ w))[..., 0]
    return tape.gradient(loss, w)


for name, operation in OPERATIONS.items():
    with tf.GradientTape() as tape:
        tape.watch(w)
        slope = gradient(operation, w)
    product = tape.gradient(slope, w, step, "zero")
    truth = (gradient(operation, w + step) - gradient(operation, w - step)) / 2
    print(f"{name:30}{tf.norm(product - truth) / tf.norm(truth):.2g}")
