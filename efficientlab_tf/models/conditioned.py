"""Conditioned networks, whose inputs are a support set and query images.

    guide  = support branch(support images, support masks)
    logits = segmentation(guide, query images)

A conditioned network is a functional model with the inputs of `make_inputs` and one
output, logits [q, H, W, K+1], channel 0 the background. All that it uses of the support
set goes through one tensor, the output of the layer called "guide". The network can be
split there, and a support set be read once for many queries.
"""

from typing import NamedTuple

import keras

from efficientlab_tf.errors import UserError

SUPPORT_INPUTS = ("support_images", "support_masks")
QUERY_INPUT = "query_images"
GUIDE = "guide"
CONDITIONING = "conditioning_"
"""Prefix of the names of layers that see the support set alone."""
_QUERY = "query"


class ConditionedInputs(NamedTuple):
    """The inputs of a conditioned network, all of one dtype.

    Attributes:
      inputs: the Keras inputs by name, for `keras.Model`.
      images: "support_images" [k, H, W, 3], RGB 0..255.
      masks: "support_masks" [k, H, W], 0 for background, 1..K, 255 unknown.
      query: "query_images" [q, H, W, 3], behind a layer "query". k and q are
        independent.
    """

    inputs: dict[str, keras.KerasTensor]
    images: keras.KerasTensor
    masks: keras.KerasTensor
    query: keras.KerasTensor


def make_inputs(size: tuple[int, int], dtype: str) -> ConditionedInputs:
    """Creates the inputs of a network for images of this height and width."""
    shapes = dict.fromkeys((*SUPPORT_INPUTS, QUERY_INPUT), (*size, 3))
    shapes[SUPPORT_INPUTS[1]] = size
    inputs = {
        name: keras.Input(shape, dtype=dtype, name=name)
        for name, shape in shapes.items()
    }
    # `between` cuts at outputs of layers: a model that is cut at an input itself cannot
    # be saved (Keras 3.15).
    query = keras.layers.Identity(name=_QUERY, dtype=dtype)(inputs[QUERY_INPUT])
    return ConditionedInputs(inputs, *(inputs[n] for n in SUPPORT_INPUTS), query)


def mark_guide(x: keras.KerasTensor) -> keras.KerasTensor:
    """Makes `x` the tensor where a network is split."""
    return keras.layers.Identity(name=GUIDE, dtype=x.dtype)(x)


def is_conditioned(model: keras.Model) -> bool:
    """Whether a model is a conditioned network, as the module defines it."""
    return (
        isinstance(model.input, dict)
        and set(model.input) == {*SUPPORT_INPUTS, QUERY_INPUT}
        and {GUIDE, _QUERY} <= {layer.name for layer in model.layers}
    )


def split(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Cuts a conditioned network at its guide.

    Args:
      model: the network.

    Returns:
      Two functional models that share the network's layers and variables: from
      "support_images" and "support_masks" to the guide, and from "guide" and
      "query_images" to the logits. Their composition is the network.

    Raises:
      UserError: the network is not conditioned on a support set.
    """
    if not is_conditioned(model):
        raise UserError(
            f"network {model.name}: expected the inputs "
            f"{', '.join(SUPPORT_INPUTS)} and {QUERY_INPUT} and a layer {GUIDE!r}; "
            "received another kind of network; use one that is conditioned on a "
            "support set"
        )
    guide, query = (model.get_layer(name).output for name in (GUIDE, _QUERY))
    support = {name: model.input[name] for name in SUPPORT_INPUTS}
    return (
        keras.Model(support, guide, name=f"{model.name}_guide"),
        between(
            {GUIDE: guide, QUERY_INPUT: query},
            model.output,
            name=f"{model.name}_segment",
        ),
    )


def conditioning_mask(model: keras.Model) -> tuple[bool, ...]:
    """Which trainable variables see the support set alone, and no query.

    Returns:
      One entry for each of `model.trainable_variables`, in their order.

    Raises:
      UserError: there are none, as in a network that makes the features of the support
        set and of the query with the same layers; or it is no conditioned network.
    """
    guide, segment = split(model)
    own = {id(v) for v in guide.trainable_variables}
    own -= {id(v) for v in segment.trainable_variables}
    if not own:
        raise UserError(
            f"network {model.name}: expected a conditioning branch with weights of its "
            "own, found none; use the network oslsm, or `conditioning_rate` 1"
        )
    return tuple(id(v) in own for v in model.trainable_variables)


def between(
    cuts: dict[str, keras.KerasTensor], output: keras.KerasTensor, name: str
) -> keras.Model:
    """Returns the part of a network between outputs of layers and a later output.

    Args:
      cuts: outputs of layers, by the names of the inputs of the part. (A model that is
        cut at an input of the whole network cannot be saved.)
      output: a tensor that is computed from them.
      name: of the part.

    Returns:
      A functional model that shares the layers and variables of the network.
    """
    own = {
        key: keras.Input(x.shape[1:], dtype=x.dtype, name=key)
        for key, x in cuts.items()
    }
    # The layers themselves are called again on these inputs, not copies.
    behind = keras.models.clone_model(
        keras.Model(list(cuts.values()), output),
        input_tensors=list(own.values()),
        clone_function=lambda layer: layer,
    )
    return keras.Model(own, behind.output, name=name)
