"""Segmentation networks: Keras functional models and the layers they are made of."""

import inspect
from collections.abc import Callable
from typing import Any

import keras

from efficientlab_tf.errors import UserError
from efficientlab_tf.models.closed_form import closed_form
from efficientlab_tf.models.conditioned import is_conditioned, split
from efficientlab_tf.models.efficientlab import efficientlab
from efficientlab_tf.models.fcn import fcn
from efficientlab_tf.models.guided import guided
from efficientlab_tf.models.heads import convert_to_classes, with_classes
from efficientlab_tf.models.meta_drn import meta_drn
from efficientlab_tf.models.oslsm import oslsm
from efficientlab_tf.models.parts import declare_decoder, decoder_mask
from efficientlab_tf.models.siamese import siamese

MODELS: dict[str, Callable[..., keras.Model]] = {
    "closed_form": closed_form,
    "efficientlab": efficientlab,
    "fcn": fcn,
    "guided": guided,
    "meta_drn": meta_drn,
    "oslsm": oslsm,
    "siamese": siamese,
}
"""The builder of each network by its name."""

__all__ = [
    "MODELS",
    "build_model",
    "closed_form",
    "convert_to_classes",
    "decay_mask",
    "declare_decoder",
    "decoder_mask",
    "efficientlab",
    "fcn",
    "guided",
    "is_conditioned",
    "meta_drn",
    "oslsm",
    "siamese",
    "split",
    "with_classes",
]


def build_model(name: str, **options: Any) -> keras.Model:
    """Builds the network called `name` with the options of its function.

    Returns:
      A model from images [N, H, W, 3], RGB 0..255, to logits [N, H, W, classes], or a
      conditioned network, see `conditioned`.

    Raises:
      UserError: no such network, or it does not have such an option.
    """
    if name not in MODELS:
        raise UserError(
            f"`network` must be one of {', '.join(sorted(MODELS))}, received {name!r}"
        )
    known = inspect.signature(MODELS[name]).parameters
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise UserError(
            f"network {name}: expected options out of {', '.join(known)}, "
            f"received {', '.join(unknown)}"
        )
    return MODELS[name](**options)


def decay_mask(model: keras.Model) -> tuple[bool, ...]:
    """Which trainable variables L2 regularization acts on.

    Returns:
      One entry for each of `model.trainable_variables`, in their order: False for
      the scale and offset (gamma, beta) of normalization layers, else True.
    """
    return tuple(v.name not in ("gamma", "beta") for v in model.trainable_variables)
