"""Splitting a network behind all that training does not change.

    model = trained part of frozen part

The frozen part is every layer that has no trainable variable and whose inputs come from
such layers alone. What it makes of an episode is the same at every step.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import keras

from efficientlab_tf.errors import UserError
from efficientlab_tf.models.conditioned import between

_PREFIX = "frozen_"


def is_prepared(inputs: Any) -> bool:
    """Whether these are outputs of a frozen part, and not what a network takes."""
    return isinstance(inputs, Mapping) and all(n.startswith(_PREFIX) for n in inputs)


def split_frozen(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Cuts a functional model in two.

    Args:
      model: the network.

    Returns:
      The frozen part, from the network's inputs to a dict of tensors, and the trained
      part, from these by their names to the network's output. They share the network's
      layers and variables.

    Raises:
      UserError: the first layer is trained already, or nothing is.
    """
    # In topological order: what a layer reads was seen before.
    changing: set[int] = set()
    cuts: dict[int, keras.KerasTensor] = {}
    for node in _nodes(model):
        inputs, outputs = node.input_tensors, node.outputs
        if not _changes(node.operation) and not any(id(t) in changing for t in inputs):
            continue
        changing.update(id(t) for t in outputs)
        cuts.update((id(t), t) for t in inputs if id(t) not in changing)
    given = {id(t) for t in model.inputs}
    if id(model.output) not in changing or any(i in given for i in cuts):
        raise UserError(
            f"network {model.name}: expected layers that training does not change, "
            "and others behind them that it does; set `freeze_features`"
        )
    named = {f"{_PREFIX}{i}": tensor for i, tensor in enumerate(cuts.values())}
    frozen = keras.Model(model.input, named, name=f"{model.name}_frozen")
    return frozen, between(named, model.output, name=f"{model.name}_trained")


def _nodes(model: keras.Model) -> Iterable:
    """The calls of the layers of a functional model, first to last."""
    own = model._nodes_by_depth
    return [node for depth in sorted(own, reverse=True) for node in own[depth]]


def _changes(operation) -> bool:
    """Whether a layer gives something else at another step: trained, or random."""
    layer = isinstance(operation, keras.layers.Layer)
    return layer and (
        bool(operation.trainable_variables)
        or any("seed" in v.path.split("/")[-1] for v in operation.variables)
    )
