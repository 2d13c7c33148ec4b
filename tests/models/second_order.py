"""Checks a Hessian-vector product by central differences of the gradient."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

Loss = Callable[[list[tf.Tensor]], tf.Tensor]


def hessian_vector_product(
    loss: Loss, at: Sequence[tf.Tensor], vector: Sequence[tf.Tensor]
) -> list[tf.Tensor]:
    with tf.GradientTape() as outer:
        outer.watch(at)
        product = sum(
            tf.reduce_sum(g * v)
            for g, v in zip(gradient(loss, at), vector, strict=True)
        )
    return outer.gradient(product, at, unconnected_gradients="zero")


def gradient(loss: Loss, at: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    with tf.GradientTape() as tape:
        tape.watch(at)
        value = loss(at)
    return tape.gradient(value, at, unconnected_gradients="zero")


def hessian_error(loss: Loss, at: Sequence[tf.Tensor], step: float = 1e-5) -> float:
    """How far the Hessian-vector product in a random direction is from the truth.

    Args:
      loss: a smooth function of the list of tensors.
      at: float64 tensors.
      step: length of the finite difference, relative to the direction, whose
        entries are about one.

    Returns:
      The relative L2 error over all tensors together.
    """
    random = np.random.default_rng(0)
    vector = [tf.constant(random.normal(size=x.shape)) for x in at]
    product = hessian_vector_product(loss, at, vector)
    ahead, behind = (
        gradient(loss, [x + sign * step * v for x, v in zip(at, vector, strict=True)])
        for sign in (1.0, -1.0)
    )
    truth = [(a - b) / (2 * step) for a, b in zip(ahead, behind, strict=True)]
    difference = [p - t for p, t in zip(product, truth, strict=True)]
    return float(tf.linalg.global_norm(difference) / tf.linalg.global_norm(truth))
