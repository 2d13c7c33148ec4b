"""Which layers of a network are its decoder, as each network declares.

A declaration goes by names, the model's and its layers': a model keeps them when it is
saved and loaded, or copied with another head.
"""

import keras

from efficientlab_tf.errors import UserError

_DECODERS: dict[str, tuple[str, ...]] = {}


def declare_decoder(network: str, *layers: str) -> None:
    """Declares which layers of a network lie behind its encoder.

    Networks of your own can be declared too, also after they were loaded.

    Args:
      network: the name of the Keras model.
      *layers: what the names of those layers start with. A layer that is a model itself
        stands for all layers in it.
    """
    _DECODERS[network] = layers


def decoder_mask(model: keras.Model) -> tuple[bool, ...]:
    """Which trainable variables belong to the decoder.

    Returns:
      One entry for each of `model.trainable_variables`, in their order.

    Raises:
      UserError: the network has not declared a decoder, or has no such layers.
    """
    if model.name not in _DECODERS:
        raise UserError(
            f"which layers of network {model.name} are its decoder was not declared "
            "(efficientlab_tf.models.declare_decoder), so `adapt` must be all and "
            "`encoder_rate` 1"
        )
    declared = _DECODERS[model.name]
    behind = {
        id(variable)
        for layer in model.layers
        if layer.name.startswith(declared)
        for variable in layer.trainable_variables
    }
    if not behind:
        raise UserError(
            f"network {model.name}: expected layers whose names start with "
            f"{' or '.join(declared)}, its decoder, found none; use `adapt` all and "
            "`encoder_rate` 1"
        )
    return tuple(id(variable) in behind for variable in model.trainable_variables)
