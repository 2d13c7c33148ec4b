"""Backbones of KerasHub, as frozen encoders of methods that compare features.

    hub:PRESET    PRESET: a name or handle that KerasHub knows, or a preset's folder

Feature maps are numbered by their stride, as stages of an EfficientNet are: 3 at stride
4, 4 at 8, 6 at 16 and 8 at 32. A vision transformer has stage 6 alone: its last
patches, at stride 16 whatever their size, because pictures are resized first.

KerasHub is the extra `hub`: pip install 'efficientlab_tf[hub]'.
"""

import importlib
from types import ModuleType

import keras
import tensorflow as tf

from efficientlab_tf.errors import UserError
from efficientlab_tf.models.arguments import check
from efficientlab_tf.models.layers import Resize

PREFIX = "hub:"
_STAGES = {4: 3, 8: 4, 16: 6, 32: 8}
_STRIDE = 16
"""Of patches."""


@keras.saving.register_keras_serializable(package="efficientlab_tf")
class Patches(keras.layers.Layer):
    """The last tokens, [n, h w + others, C], as a map [n, h, w, C].

    Args:
      height, width: h and w.
    """

    def __init__(self, height: int, width: int, **kwargs):
        super().__init__(**kwargs)
        self.grid = height, width

    def call(self, inputs):
        height, width = self.grid
        patches = inputs[:, -height * width :]
        return tf.reshape(patches, [-1, height, width, inputs.shape[-1]])

    def compute_output_shape(self, input_shape):
        return input_shape[0], *self.grid, input_shape[-1]

    def get_config(self):
        height, width = self.grid
        return {**super().get_config(), "height": height, "width": width}


class Stages(dict):
    """Feature maps by stage; one that a backbone lacks is a UserError.

    Args:
      backbone: its name.
      maps: its stages.
    """

    def __init__(self, backbone: str, maps: dict[int, keras.KerasTensor]):
        super().__init__(maps)
        self._backbone = backbone

    def __missing__(self, stage: int):
        raise UserError(
            f"`stages` must be some of {', '.join(map(str, sorted(self)))} with "
            f"{self._backbone}, received {stage}"
        )


def is_hub(backbone: str) -> bool:
    """Whether a backbone is one of KerasHub."""
    return backbone.startswith(PREFIX)


def check_frozen(backbone: str, frozen: bool) -> None:
    """Raises a UserError if a backbone of KerasHub is to be trained."""
    expected = f"True with {backbone}, which does not train here"
    check(frozen or not is_hub(backbone), "freeze_features", expected, frozen)


def keras_hub() -> ModuleType:
    """KerasHub, imported where it is needed; it registers its layers with Keras.

    Raises:
      UserError: it is not installed.
    """
    try:
        return importlib.import_module("keras_hub")
    except ImportError as error:
        raise UserError(
            f"a backbone that begins with {PREFIX} needs KerasHub: run "
            "pip install 'efficientlab_tf[hub]'"
        ) from error


def build(
    name: str, images: keras.KerasTensor, weights: str | None
) -> dict[int, keras.KerasTensor]:
    """Puts a backbone behind images; nothing of it trains.

    Args:
      name: "hub:PRESET".
      images: [N, H, W, 3], RGB 0..255; H and W divisible by 32.
      weights: "imagenet" for the preset's own, None for random ones.

    Returns:
      Its stages; see the module.

    Raises:
      UserError: KerasHub is not installed, or it cannot build the preset for images
        of this size.
    """
    hub, preset = keras_hub(), name.removeprefix(PREFIX)
    height, width = images.shape[1:3]
    load = hub.models.Backbone.from_preset
    try:
        # The first network only says how large its patches are; no weights are read.
        converter = hub.layers.ImageConverter.from_preset(preset)
        patch = getattr(load(preset, load_weights=False), "patch_size", None)
        size = [side * (patch or _STRIDE) // _STRIDE for side in (height, width)]
        shape = (*size, 3)
        backbone = load(preset, load_weights=weights is not None, image_shape=shape)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"backbone {name}: KerasHub cannot build it for {height}x{width} pixels "
            f"({reason}); check the name, try the `image_size` that it was made for, "
            "or, without a network connection, name a folder that holds the preset"
        ) from error
    outputs = getattr(backbone, "pyramid_outputs", {}).values()
    maps = [x for x in (*outputs, backbone.output) if len(x.shape) == 4]
    network = keras.Model(backbone.input, maps or backbone.output, name="hub")
    network.trainable = False
    x = Resize(*size, name="hub_size")(images)
    scale = 1.0 if converter.scale is None else converter.scale
    offset = 0.0 if converter.offset is None else converter.offset
    x = keras.layers.Rescaling(scale, offset, name="preprocessing")(x)
    inputs = backbone.input
    found = network({key: x for key in inputs} if isinstance(inputs, dict) else x)
    if not maps:
        grid = height // _STRIDE, width // _STRIDE
        return Stages(name, {_STAGES[_STRIDE]: Patches(*grid, name="patches")(found)})
    strides = {height // x.shape[1]: x for x in found}
    return Stages(name, {_STAGES[s]: x for s, x in strides.items() if s in _STAGES})
