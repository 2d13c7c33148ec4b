"""Writes a TensorFlow 1 checkpoint of EfficientLab's authors as a .keras model.

  python tools/import_efficientlab_checkpoint.py \
      --checkpoint EfficientLab-6-3_FOMAML-star_checkpoint/model.ckpt \
      --output efficientlab_6_3_fomaml_star.keras

The backbone, the decoder and its stages are read off the checkpoint. Its variables are
named by scope, and within a scope by kind and order:

    efficientnet-b0/stem/{conv2d, tpu_batch_normalization}/...
    efficientnet-b0/blocks_I/{conv2d, conv2d_1, depthwise_conv2d, se/conv2d, ...}/...
    decode/decode_skip_connections_I/{conv2d, conv2d_1, batch_normalization, ...}/...
    decode/final_layer_weights/{kernel, bias}

where blocks are counted over the encoder and skip connections over its reductions.
Older checkpoints have one decoder module, in a scope without a number.
"""

import argparse
import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from efficientlab_tf import quiet  # noqa: F401  (imports TensorFlow, before others do)

# isort: split
import keras
import tensorflow as tf

from efficientlab_tf.errors import UserError, run_command
from efficientlab_tf.models import efficientlab

_SKIP_SCOPE = "decode/decode_skip_connections"
# Stage -> the authors' number. Stage 5 is no reduction: stage 6 has its stride.
_SKIP_NUMBER = {2: 0, 3: 1, 4: 2, 6: 3}
_LEGACY_STAGE = 3

_BLOCK = {
    "expand_conv": "conv2d",
    "expand_bn": "tpu_batch_normalization",
    "dwconv": "depthwise_conv2d",
    "bn": "tpu_batch_normalization_1",
    "se_reduce": "se/conv2d",
    "se_expand": "se/conv2d_1",
    "project_conv": "conv2d_1",
    "project_bn": "tpu_batch_normalization_2",
}
_BLOCK_WITHOUT_EXPANSION = {
    **_BLOCK,
    "bn": "tpu_batch_normalization",
    "project_conv": "conv2d",
    "project_bn": "tpu_batch_normalization_1",
}
_SKIP_DECODER = {
    "branch0_conv": "conv2d",
    "branch0_bn": "batch_normalization",
    "branch1_conv": "conv2d_1",
    "branch1_bn": "batch_normalization_1",
    "out_conv": "conv2d_2",
    "out_bn": "batch_normalization_2",
}
_REMEDY = "build the model with the checkpoint's architecture"


def load_efficientlab_checkpoint(model: keras.Model, prefix: str) -> None:
    """Assigns a checkpoint of the authors to all variables of `model`.

    Optimizer slots are ignored, and so are encoder blocks behind the last one that
    the network uses: the authors' B3 kept them, without gradients.

    Args:
      model: a network made by `efficientlab`, of the checkpoint's architecture.
      prefix: path of the checkpoint without ".index".

    Raises:
      UserError: no such checkpoint; a variable is missing, has another shape, or
        belongs to a part that the model lacks. Nothing is assigned then.
    """
    backbone = checkpoint_architecture(prefix)["backbone"]
    with _readable(prefix):
        reader = tf.train.load_checkpoint(prefix)
        shapes = reader.get_variable_to_shape_map()
    scopes = _scopes(
        [layer.name for layer in model.layers if layer.weights],
        backbone.replace("EfficientNetB", "efficientnet-b"),
        legacy=_is_legacy(shapes),
    )
    variables = {}
    for layer in model.layers:
        for variable in layer.weights:
            depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            kind = "depthwise_kernel" if depthwise else variable.name
            name = f"{scopes[layer.name]}/{kind}"
            if name not in shapes:
                raise UserError(
                    f"{prefix}: expected a variable {name} for the model's "
                    f"{variable.path}, found none; {_REMEDY}"
                )
            if tuple(shapes[name]) != tuple(variable.shape):
                raise UserError(
                    f"{prefix}: {name}: expected the shape {tuple(variable.shape)} of "
                    f"the model's {variable.path}, received {tuple(shapes[name])}; "
                    f"{_REMEDY}"
                )
            variables[name] = variable
    for name in sorted(shapes):
        slot = name.rpartition("/")[0] in variables
        if name.startswith("decode/") and name not in variables and not slot:
            raise UserError(
                f"{prefix}: {name} has no counterpart in the model; {_REMEDY}"
            )
    with _readable(prefix):
        values = {name: reader.get_tensor(name) for name in variables}
    for name, variable in variables.items():
        variable.assign(values[name])


def checkpoint_architecture(prefix: str) -> dict[str, Any]:
    """The arguments of `efficientlab` that a checkpoint's variables reveal.

    Returns:
      backbone, decoder, rsd_stages (for "rsd") and num_classes. Image size, residual
      and the dropout rates leave no trace. A module in a scope without a number is
      taken to be at stage 3.

    Raises:
      UserError: no such checkpoint, or not one of EfficientLab.
    """
    with _readable(prefix):
        shapes = tf.train.load_checkpoint(prefix).get_variable_to_shape_map()
    backbones = {n.split("/")[0] for n in shapes if re.match(r"efficientnet-b\d/", n)}
    kernel = "decode/final_layer_weights/kernel"
    if len(backbones) != 1 or kernel not in shapes:
        raise UserError(
            f"{prefix}: expected variables efficientnet-bN/... and {kernel}, found "
            f"{', '.join(sorted(shapes)[:3])}, ...; this is no EfficientLab checkpoint"
        )
    stages = [
        stage
        for stage, number in _SKIP_NUMBER.items()
        if f"{_SKIP_SCOPE}_{number}/conv2d/kernel" in shapes
    ]
    if _is_legacy(shapes):
        stages = [_LEGACY_STAGE]
    architecture = {
        "backbone": backbones.pop().replace("efficientnet-b", "EfficientNetB"),
        "decoder": "rsd" if stages else "none",
        "num_classes": shapes[kernel][-1] - 1,
    }
    if stages:
        architecture["rsd_stages"] = tuple(sorted(stages, reverse=True))
    return architecture


def _is_legacy(shapes: dict[str, list[int]]) -> bool:
    return f"{_SKIP_SCOPE}/conv2d/kernel" in shapes


def _scopes(layers: list[str], encoder: str, legacy: bool) -> dict[str, str]:
    """The authors' scope of each layer that has weights."""
    scopes = {
        "stem_conv": f"{encoder}/stem/conv2d",
        "stem_bn": f"{encoder}/stem/tpu_batch_normalization",
        "classifier": "decode/final_layer_weights",
    }
    blocks: list[str] = []
    for layer in layers:
        part, _, role = layer.partition("_")
        if part.startswith("block"):
            if part not in blocks:
                blocks.append(part)
            expands = f"{part}_expand_conv" in layers
            names = _BLOCK if expands else _BLOCK_WITHOUT_EXPANSION
            if role in names:
                scope = f"{encoder}/blocks_{blocks.index(part)}"
                scopes[layer] = f"{scope}/{names[role]}"
        elif role in _SKIP_DECODER and int(part[3:]) in _SKIP_NUMBER:
            number = _SKIP_NUMBER[int(part[3:])]
            scope = _SKIP_SCOPE if legacy else f"{_SKIP_SCOPE}_{number}"
            scopes[layer] = f"{scope}/{_SKIP_DECODER[role]}"
        if layer not in scopes:
            raise UserError(
                f"layer {layer}: no checkpoint of the authors has such a layer; "
                f"{_REMEDY} (EfficientNetB0 or B3, decoder rsd or none)"
            )
    return scopes


@contextlib.contextmanager
def _readable(prefix: str) -> Iterator[None]:
    try:
        yield
    except (tf.errors.OpError, ValueError, IndexError) as error:
        raise UserError(
            f"{prefix}: expected a TensorFlow checkpoint (files {prefix}.index and "
            f"{prefix}.data-*), could not read it; give the path without its ending"
        ) from error


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--checkpoint", required=True, help="path of the checkpoint without .index"
    )
    parser.add_argument("--output", required=True, help="the .keras file to write")
    parser.add_argument(
        "--image_size", type=int, default=224, help="height and width of the images"
    )
    parser.add_argument(
        "--rsd_stages",
        type=int,
        nargs="+",
        help="the decoder's stages, for an old checkpoint whose scopes have no number "
        "and whose decoder is not at stage 3",
    )
    parser.add_argument(
        "--no_residual",
        action="store_true",
        help="the network was trained without residual connections in the decoder",
    )
    options = parser.parse_args(arguments)
    output = Path(options.output)
    if output.suffix != ".keras":
        raise UserError(f"--output: expected a .keras file, received {output}")
    if not output.absolute().parent.is_dir():
        raise UserError(f"--output: there is no folder {output.parent}; make it first")
    architecture = checkpoint_architecture(options.checkpoint)
    if options.rsd_stages:
        architecture["rsd_stages"] = tuple(options.rsd_stages)
    model = efficientlab(
        image_size=options.image_size,
        residual=not options.no_residual,
        **architecture,
    )
    load_efficientlab_checkpoint(model, options.checkpoint)
    model.save(output)
    stages = ",".join(str(stage) for stage in architecture.get("rsd_stages", ()))
    print(
        f"{output}: {architecture['backbone']}, decoder {architecture['decoder']} "
        f"{stages}, {model.count_params():,} weights"
    )


if __name__ == "__main__":
    run_command(main)
