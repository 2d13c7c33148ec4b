"""The tool that reads EfficientNet-Lite's published weights."""

import pickle
import struct
import sys
import types
from collections import OrderedDict

import numpy as np
import pytest

from tools.make_lite_weights import converted, read_pth


class Tensor:
    """Pickled like a tensor of PyTorch's: a view of a storage."""

    def __init__(self, key, kind, offset, shape, strides):
        self.storage = kind, key
        self.view = offset, shape, strides

    def __reduce__(self):
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        return rebuild, (self.storage, *self.view, False, OrderedDict())


class Pickler(pickle.Pickler):
    def persistent_id(self, thing):
        if isinstance(thing, tuple) and len(thing) == 2 and isinstance(thing[0], type):
            return ("storage", *thing, "cpu", 0, None)
        return None


def write_pth(path, monkeypatch, tensors, storages):
    """Writes a file as PyTorch before 1.6 did, without PyTorch."""
    torch = types.ModuleType("torch")
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})
    torch.LongStorage = type("LongStorage", (), {"__module__": "torch"})
    utils = types.ModuleType("torch._utils")
    utils._rebuild_tensor_v2 = lambda *_: None
    utils._rebuild_tensor_v2.__module__ = "torch._utils"
    utils._rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    views = OrderedDict(
        (name, Tensor(key, getattr(torch, kind), *view))
        for name, (key, kind, *view) in tensors.items()
    )
    with open(path, "wb") as file:
        for part in (0x1950A86A20F9469CFC6C, 1001, {}, views, list(storages)):
            Pickler(file, protocol=2).dump(part)
        for values in storages.values():
            file.write(struct.pack("<q", len(values)) + values.tobytes())


def test_strides_and_offsets_of_tensors_are_honoured(tmp_path, monkeypatch):
    path = tmp_path / "network.pth"
    values = np.arange(8, dtype=np.float32)
    tensors = {
        "a": ("7", "FloatStorage", 2, (3, 2), (1, 3)),
        "b": ("7", "FloatStorage", 0, (2,), (1,)),
        "count": ("8", "LongStorage", 0, (), ()),
    }
    storages = {"7": values, "8": np.array([5], np.int64)}
    write_pth(path, monkeypatch, tensors, storages)
    found = read_pth(str(path))
    np.testing.assert_array_equal(found["a"], values[2:].reshape(2, 3).T)
    np.testing.assert_array_equal(found["b"], [0, 1])
    assert found["count"] == 5


def test_nothing_but_tensors_is_unpickled(tmp_path):
    path = tmp_path / "network.pth"
    path.write_bytes(pickle.dumps(print, protocol=2))
    with pytest.raises(KeyError, match="print"):
        read_pth(str(path))


def test_tensors_are_named_and_transposed_as_in_keras():
    shapes = {
        "_conv_stem.weight": (32, 3, 3, 3),
        "_blocks.0._depthwise_conv.weight": (32, 1, 3, 3),
        "_blocks.0._project_conv.weight": (16, 32, 1, 1),
        "_bn0": (32,),
        "_blocks.0._bn1": (32,),
        "_blocks.0._bn2": (16,),
    }
    rng = np.random.default_rng(0)
    tensors = {}
    for name, shape in shapes.items():
        parts = ("weight", "bias", "running_mean", "running_var")
        for key in [name] if len(shape) == 4 else [f"{name}.{p}" for p in parts]:
            tensors[key] = rng.random(shape, np.float32)
    found = converted(tensors, "EfficientNetLite0", 1, 2)
    assert len(found) == len(tensors) == 15
    stem, depthwise = tensors["_conv_stem.weight"], "_blocks.0._depthwise_conv.weight"
    assert found["stem_conv/kernel"][0, 1, 2, 3] == stem[3, 2, 0, 1]
    assert found["block1a_dwconv/kernel"][0, 1, 5, 0] == tensors[depthwise][5, 0, 0, 1]
    np.testing.assert_array_equal(
        found["block1a_project_bn/moving_variance"],
        tensors["_blocks.0._bn2.running_var"],
    )
