"""Finds layers whose second derivative TensorFlow silently gets wrong.

There are two ways to a wrong second derivative. An operation of the *first* derivative
may have no derivative itself: `ResizeBilinearGrad` is registered as not differentiable,
and a tape drops every path through it. Or the forward pass stops a gradient on a path
that matters: `tf.nn.moments` stops that of the mean inside the variance, which leaves
the first derivative right and the second wrong.

Both can be seen in the graph of the first derivative, whatever the layer. So the
gradient that the inner loop takes is traced once, and every operation on a path from
theta to it must have a registered gradient and must not stop one. This takes one trace
and no arithmetic, where Hessian-vector products against finite differences would take
passes in float64 for each layer. Registered gradients are assumed to be right.
"""

import re

import keras
import tensorflow as tf
from tensorflow.python.framework import ops

from efficientlab_tf.errors import UserError
from efficientlab_tf.segmenters.inner_loop import InnerLoop

_STOPS = ("StopGradient", "PreventGradient")
# No gradient is registered because it is zero.
_CONSTANT = ("ZerosLike", "OnesLike")
# Their bodies are not looked into, and a tape through them twice is not to be trusted.
_CONTROL_FLOW = ("While", "StatelessWhile", "If", "StatelessIf", "Case")


def check_second_derivatives(inner: InnerLoop) -> None:
    """Raises if the meta-gradient through `inner` would be wrong.

    Args:
      inner: the inner loop; its network and its loss are looked at.

    Raises:
      UserError: an operation without a right second derivative; names its layer.
    """
    for operation in _gradient_path(inner):
        reason = _fault(operation)
        if reason:
            where, layer = _owner(operation, inner.network.model)
            raise UserError(
                f"{where} has no right second derivative ({reason}); {_advice(layer)}"
            )


def _gradient_path(inner: InnerLoop) -> list[tf.Operation]:
    """Traces the gradient of the loss; returns what lies between theta and it."""
    height, width, _ = inner.network.image_shape
    eager = tf.config.functions_run_eagerly()
    with tf.init_scope():
        weights = inner.network.weights()
    graph = tf.__internal__.FuncGraph("second_derivatives")
    # Functions that layers call are traced into this very graph.
    tf.config.run_functions_eagerly(True)
    try:
        with graph.as_default():
            theta, statistics = (
                tuple(tf.compat.v1.placeholder(t.dtype, t.shape) for t in tensors)
                for tensors in (weights.theta, weights.statistics)
            )
            step = inner.gradient(
                theta,
                statistics,
                tf.zeros([2, height, width, 3], tf.uint8),
                tf.zeros([2, height, width], tf.uint8),
                tf.constant([0, 0]),
            )
    finally:
        tf.config.run_functions_eagerly(eager)
    before = _closure(
        [g.op for g in step.gradient], lambda op: [i.op for i in op.inputs]
    )
    after = _closure(
        [t.op for t in theta],
        lambda op: [c for output in op.outputs for c in output.consumers()],
    )
    between = (before & after) - {t.op.name for t in theta}
    return [op for op in graph.get_operations() if op.name in between]


def _closure(start: list[tf.Operation], following) -> set[str]:
    """Returns the names of all that `following` leads to."""
    found, waiting = {operation.name for operation in start}, list(start)
    while waiting:
        for operation in following(waiting.pop()):
            if operation.name not in found:
                found.add(operation.name)
                waiting.append(operation)
    return found


def _fault(operation: tf.Operation) -> str:
    if operation.type in _STOPS:
        return "it stops a gradient on its way"
    if operation.type in _CONTROL_FLOW:
        return f"it is computed by control flow, {operation.type}"
    if operation.type in _CONSTANT or not any(
        output.dtype.is_floating for output in operation.outputs
    ):
        return ""
    try:
        differentiable = ops.get_gradient_function(operation) is not None
    except LookupError:
        differentiable = False
    return "" if differentiable else f"TensorFlow has none for {operation.type}"


def _owner(operation: tf.Operation, model) -> tuple[str, keras.layers.Layer | None]:
    """Finds the layer by the name scope that Keras gives each layer's operations.

    The outermost one: inside a layer TensorFlow opens scopes, too, such as "resize".
    """
    layers = {
        layer.name: layer
        for layer in model._flatten_layers(include_self=False)
        if not isinstance(layer, keras.Model)
    }
    for scope in operation.name.split("/"):
        layer = layers.get(scope) or layers.get(re.sub(r"_\d+$", "", scope))
        if layer is not None:
            return f"layer {layer.name} ({type(layer).__name__})", layer
    return f"operation {operation.name}", None


def _advice(layer) -> str:
    instead = "`first_order`, or another layer"
    if isinstance(layer, keras.layers.BatchNormalization):
        instead = "efficientlab_tf.models.layers.BatchNormalization"
    elif isinstance(layer, keras.layers.UpSampling2D | keras.layers.Resizing):
        instead = "efficientlab_tf.models.layers.Resize"
    return f"use {instead}"
