r"""Heads for another number of classes that keep what was meta-learned.

The foreground channel f of a network for one class has learned to tell the object of a
task. For K classes each class gets a copy of this channel. The labels of the task then
tell the copies apart, because the gradient p_k - y_k differs from copy to copy. K equal
copies would raise the foreground's probability, so each is lowered by log K:

    sum_k e^(f - log K) / (e^b + sum_k e^(f - log K)) = e^f / (e^b + e^f)

If the last convolution has a bias (EfficientLab), - log K is added to it. Meta-DRN's
has none; there + log K is added to the constant logit of the background, which gives
the same probabilities. For a network of several classes the copies are the mean of its
foreground channels.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np

from efficientlab_tf.errors import UserError
from efficientlab_tf.models.layers import BackgroundLogit


class _Head(NamedTuple):
    """The last convolution: `pixels` x (`background` + `classes`) channels.

    `background` is 1 where the convolution makes the background's logit, else 0.
    """

    name: str
    classes: int
    background: int
    pixels: int


def with_classes(model: keras.Model, classes: int) -> keras.Model:
    """Returns a copy of a network for another number of classes.

    Args:
      model: images [N, H, W, 3] to logits [N, H, W, K+1], channel 0 the background.
      classes: K of the copy.

    Returns:
      A model whose foreground probability, summed over classes, is that of `model`.

    Raises:
      UserError: the logits are not those of the network's last convolution.
    """
    head = _find_head(model)
    offset = math.log(classes / head.classes)

    def clone(layer):
        config = layer.get_config()
        if layer.name == head.name:
            config["filters"] = head.pixels * (head.background + classes)
        elif isinstance(layer, BackgroundLogit):
            config["value"] += offset
        elif isinstance(layer, keras.layers.Reshape) and layer in behind:
            # The channels become pixels; the last axis is that of the classes.
            shape = config["target_shape"]
            config["target_shape"] = (*shape[:-1], head.background + classes)
        return layer.__class__.from_config(config)

    names = [layer.name for layer in model.layers]
    behind = model.layers[names.index(head.name) + 1 :]
    copy = keras.models.clone_model(model, clone_function=clone)
    if copy.output_shape[-1] != classes + 1:
        raise _not_understood(model)
    own = [v.numpy() for v in model.trainable_variables]
    converted = convert_to_classes(own, model, classes)
    for variable, value in zip(copy.trainable_variables, converted, strict=True):
        variable.assign(value)
    for variable, source in zip(
        copy.non_trainable_variables, model.non_trainable_variables, strict=True
    ):
        variable.assign(source)
    if head.background:
        bias = copy.get_layer(head.name).bias
        lowered = bias.numpy().reshape(head.pixels, -1)
        lowered[:, 1:] -= offset
        bias.assign(lowered.reshape(-1))
    return copy


def convert_to_classes(
    values: Sequence[np.ndarray], model: keras.Model, classes: int
) -> list[np.ndarray]:
    """Converts an array for each parameter, such as rates, as `with_classes` does.

    Args:
      values: one array for each of `model.trainable_variables`, of its shape; those
        of another rank are returned as they are.
      model: the network that they belong to.
      classes: K of the copy.

    Returns:
      One array for each trainable variable of the copy; each of its classes has the
      mean over the classes of the network.
    """
    head = _find_head(model)
    own = [id(v) for v in model.get_layer(head.name).trainable_variables]
    return [
        _spread(value, head, classes)
        if id(variable) in own and value.shape == tuple(variable.shape)
        else value
        for value, variable in zip(values, model.trainable_variables, strict=True)
    ]


def _spread(value: np.ndarray, head: _Head, classes: int) -> np.ndarray:
    *rest, _ = value.shape
    value = value.reshape(*rest, head.pixels, head.background + head.classes)
    background, channels = np.split(value, [head.background], axis=-1)
    mean = channels.mean(axis=-1, keepdims=True)
    spread = np.concatenate([background, *[mean] * classes], axis=-1)
    return spread.reshape(*rest, -1)


def _find_head(model: keras.Model) -> _Head:
    convolutions = [x for x in model.layers if isinstance(x, keras.layers.Conv2D)]
    if not convolutions:
        raise _not_understood(model)
    last = convolutions[-1]
    classes = model.output_shape[-1] - 1
    fixed = any(isinstance(layer, BackgroundLogit) for layer in model.layers)
    channels = classes + (not fixed)
    if last.filters % channels or not (fixed or last.use_bias):
        raise _not_understood(model)
    pixels = last.filters // channels
    return _Head(last.name, classes, int(not fixed), pixels)


def _not_understood(model: keras.Model) -> UserError:
    return UserError(
        f"network {model.name}: expected a last convolution that makes the logits of "
        f"{model.output_shape[-1] - 1} classes; give a checkpoint with as many classes "
        "as the support set"
    )
