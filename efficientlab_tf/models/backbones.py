"""Encoders: EfficientNet-B0 to B7, EfficientNet-Lite0 and Lite2, and KerasHub's.

Stages are numbered as in table 1 of Tan & Le (2019): stage 1 is the stem, stage
s > 1 the blocks `block{s-1}a`, `block{s-1}b`, ... EfficientLab's encoder ends with
stage 6 at stride 16; stages 7 and 8, at stride 32, are for methods that compare
features. Nothing behind the last one is kept, so no parameter is without a gradient.
"""

import contextlib
import io
import math
from collections import ChainMap
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any, NamedTuple

import keras
import numpy as np

from efficientlab_tf.errors import UserError
from efficientlab_tf.models import hub
from efficientlab_tf.models.layers import BatchNormalization, Dropout

APPLICATIONS = tuple(f"EfficientNetB{i}" for i in range(8))
STAGES = (2, 3, 4, 5, 6)
"""Those of EfficientLab's encoder."""
ALL_STAGES = (*STAGES, 7, 8)
STRIDES = {2: 2, 3: 4, 4: 8, 5: 16, 6: 16, 7: 32, 8: 32}
"""Stride of each stage's output with respect to the image."""

_IMAGENET_MEAN = np.array([0.485, 0.456, 0.406]) * 255
_IMAGENET_DEVIATION = np.array([0.229, 0.224, 0.225]) * 255

_LITE_STEM = 32
# Stage -> kernel size, stride, expansion, filters, blocks; of Lite0.
_LITE_STAGES = {
    2: (3, 1, 1, 16, 1),
    3: (3, 2, 6, 24, 2),
    4: (5, 2, 6, 40, 2),
    5: (3, 2, 6, 80, 3),
    6: (5, 1, 6, 112, 3),
    7: (5, 2, 6, 192, 4),
    8: (3, 1, 6, 320, 1),
}


class _Lite(NamedTuple):
    """How a network differs from Lite0, and the files of its ImageNet weights."""

    width: float
    depth: float
    files: tuple[str, ...]


# Most kernels are float16; see weights/NOTICE.
_LITES = {
    "EfficientNetLite0": _Lite(
        1.0,
        1.0,
        ("efficientnet_lite0_encoder.npz", "efficientnet_lite0_stages_7_8.npz"),
    ),
    "EfficientNetLite2": _Lite(1.1, 1.2, ("efficientnet_lite2.npz",)),
}

LITES = tuple(_LITES)
"""Those whose ImageNet weights are in this package."""
LITE = LITES[0]
BACKBONES = (*APPLICATIONS, *LITES)


class Encoder(NamedTuple):
    """Symbolic tensors of an encoder.

    Attributes:
      images: the Keras input [N, H, W, 3], RGB 0..255.
      stages: for each stage from 2 on the output of its last block,
        [N, H / stride, W / stride, C], with the stride of `STRIDES`.
    """

    images: keras.KerasTensor
    stages: dict[int, keras.KerasTensor]


@contextlib.contextmanager
def dtype_scope(dtype: str) -> Iterator[None]:
    """Gives layers that are created in this context the dtype policy `dtype`."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def build_encoder(
    name: str,
    image_size: tuple[int, int],
    drop_connect: float = 0.2,
    weights: str | None = None,
    last_stage: int = STAGES[-1],
) -> Encoder:
    """Builds an encoder in the current dtype policy.

    Preprocessing is its first layer: (x - mean) / deviation with ImageNet's
    mean and deviation for B0 to B7, (x - 127) / 128 for Lite0 and Lite2.

    Args:
      name: one of `BACKBONES`, or one of KerasHub, see `hub`.
      image_size: height and width, each divisible by 32.
      drop_connect: rate of stochastic depth; 0 leaves it out. As in the authors'
        network it grows linearly over the blocks of the encoder: block i of n has the
        rate i / n times this. (Keras also counts the blocks that are left out here.)
      weights: None (random) or "imagenet".
      last_stage: where it ends, one of `ALL_STAGES`.

    Raises:
      UserError: unknown name or stage, or weights that cannot be downloaded.
    """
    if name not in BACKBONES and not hub.is_hub(name):
        raise UserError(
            f"`backbone` must be one of {', '.join(BACKBONES)}, or hub:PRESET, "
            f"received {name!r}"
        )
    if last_stage not in ALL_STAGES:
        raise UserError(
            f"last_stage: expected one of {ALL_STAGES}; received {last_stage!r}"
        )
    policy = keras.config.dtype_policy()
    images = keras.Input((*image_size, 3), dtype=policy.compute_dtype, name="images")
    if hub.is_hub(name):
        return Encoder(images, hub.build(name, images, weights))
    if name in LITES:
        return _lite(_LITES[name], images, drop_connect, weights, last_stage)
    return _application(name, images, drop_connect, weights, last_stage)


def _drop_rate(drop_connect: float, layer_name: str, blocks: list[str]) -> float:
    return drop_connect * blocks.index(layer_name.split("_")[0]) / len(blocks)


def _application(
    name: str,
    images: keras.KerasTensor,
    drop_connect: float,
    weights: str | None,
    last_stage: int,
) -> Encoder:
    """keras.applications' network with our preprocessing and batch normalization."""
    shape = tuple(images.shape[1:])
    network = load_application(
        name, include_top=False, weights=weights, input_shape=shape
    )
    last = {}  # The layers are in topological order: the last one wins.
    blocks = []
    for layer in network.layers:
        block = layer.name.split("_")[0]
        for stage in range(STAGES[0], last_stage + 1):
            if block.startswith(f"block{stage - 1}"):
                last[stage] = layer.output
                if block not in blocks:
                    blocks.append(block)
    trunk = keras.Model(network.input, last)

    def replace(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, keras.layers.Normalization):
            return keras.layers.Normalization(
                mean=_IMAGENET_MEAN.tolist(),
                variance=np.square(_IMAGENET_DEVIATION).tolist(),
                name="preprocessing",
            )
        config = layer.get_config()
        if isinstance(layer, keras.layers.BatchNormalization):
            return BatchNormalization.from_config(config)
        if isinstance(layer, keras.layers.Dropout):
            config["rate"] = _drop_rate(drop_connect, layer.name, blocks)
            return Dropout.from_config(config)
        return type(layer).from_config(config)

    def connect(layer: keras.layers.Layer, x: Any, **_: Any) -> Any:
        scaling = isinstance(layer, keras.layers.Rescaling)
        if scaling or isinstance(layer, keras.layers.Dropout) and layer.rate == 0:
            return x
        return layer(x)

    encoder = keras.models.clone_model(
        trunk, input_tensors=images, clone_function=replace, call_function=connect
    )
    if weights is not None:
        for layer in encoder.layers:
            if layer.weights:
                copied = network.get_layer(layer.name).weights
                values = {w.name: w.numpy() for w in copied}
                _assign(layer, values)
    return Encoder(images, encoder.output)


def load_application(name: str, *, weights: str | None, **options: Any) -> keras.Model:
    """Builds a network of keras.applications.

    Args:
      name: of the function in keras.applications.
      weights: None (random) or "imagenet".
      **options: other arguments of the function.

    Raises:
      UserError: the weights cannot be downloaded.
    """
    try:
        return getattr(keras.applications, name)(weights=weights, **options)
    except Exception as error:
        if weights is None:
            raise
        raise UserError(
            f"backbone {name}: its ImageNet weights could not be downloaded "
            f"({' '.join(str(error).split())}); put the .h5 file that Keras wants "
            f"into ~/.keras/models, or use {LITE}, whose weights are in this "
            "package, or leave `weights` out"
        ) from error


def _lite(
    lite: _Lite,
    images: keras.KerasTensor,
    drop_connect: float,
    weights: str | None,
    last_stage: int,
) -> Encoder:
    layers = keras.layers
    blocks = [
        f"block{stage - 1}{'abcde'[i]}"
        for stage in range(STAGES[0], last_stage + 1)
        for i in range(_repeats(stage, lite.depth))
    ]

    def normalize(x, name, activate=True):
        x = BatchNormalization(name=name)(x)
        if activate:
            x = layers.ReLU(6.0, name=name.replace("bn", "activation"))(x)
        return x

    def conv(x, name, filters, kernel_size, strides=1):
        return layers.Conv2D(
            filters,
            kernel_size,
            strides=strides,
            padding="same",
            use_bias=False,
            kernel_initializer=_initializer(),
            name=name,
        )(x)

    def block(inputs, name, kernel_size, strides, expansion, filters):
        x = inputs
        if expansion != 1:
            x = conv(x, f"{name}_expand_conv", expansion * inputs.shape[-1], 1)
            x = normalize(x, f"{name}_expand_bn")
        x = layers.DepthwiseConv2D(
            kernel_size,
            strides=strides,
            padding="same",
            use_bias=False,
            depthwise_initializer=_initializer(),
            name=f"{name}_dwconv",
        )(x)
        x = normalize(x, f"{name}_bn")
        x = conv(x, f"{name}_project_conv", filters, 1)
        x = normalize(x, f"{name}_project_bn", activate=False)
        if strides == 1 and inputs.shape[-1] == filters:
            rate = _drop_rate(drop_connect, name, blocks)
            if rate:
                shape = (None, 1, 1, 1)
                x = Dropout(rate, noise_shape=shape, name=f"{name}_drop")(x)
            x = layers.Add(name=f"{name}_add")([x, inputs])
        return x

    x = layers.Rescaling(1 / 128, -127 / 128, name="preprocessing")(images)
    x = normalize(conv(x, "stem_conv", _LITE_STEM, 3, strides=2), "stem_bn")
    stages = {}
    for name in blocks:
        stage = int(name[-2]) + 1
        kernel_size, strides, expansion, filters, _ = _LITE_STAGES[stage]
        if stage in stages:
            strides = 1
        # To the nearest multiple of 8.
        filters = int(filters * lite.width + 4) // 8 * 8
        x = block(x, name, kernel_size, strides, expansion, filters)
        stages[stage] = x
    if weights is not None:
        values = _lite_weights(lite)
        for layer in keras.Model(images, x).layers:
            own = {w.name: values[f"{layer.name}/{w.name}"] for w in layer.weights}
            _assign(layer, own)
    return Encoder(images, stages)


def _repeats(stage: int, depth: float) -> int:
    """Blocks of a stage; those of the first and the last are not multiplied."""
    repeats = _LITE_STAGES[stage][-1]
    return repeats if stage in (2, 8) else math.ceil(repeats * depth)


def _initializer() -> keras.initializers.Initializer:
    """Kernels of keras.applications' EfficientNets."""
    return keras.initializers.VarianceScaling(2.0, "fan_out", "truncated_normal")


def _lite_weights(lite: _Lite) -> Mapping[str, np.ndarray]:
    """ImageNet weights, "layer/variable" -> array, read where they are asked for."""
    folder = resources.files("efficientlab_tf.models") / "weights"
    files = [io.BytesIO((folder / file).read_bytes()) for file in lite.files]
    return ChainMap(*(np.load(file) for file in files))


def _assign(layer: keras.layers.Layer, values: dict[str, np.ndarray]) -> None:
    for variable in layer.weights:
        variable.assign(values[variable.name])
