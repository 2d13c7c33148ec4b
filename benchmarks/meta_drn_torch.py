"""Meta-DRN in PyTorch, to compare frameworks on one network: see `models.meta_drn`.

Imported by the comparison with learn2learn alone; needs `pip install ".[bench]"`.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional

_SLOPE = 0.01
_EPSILON = 1e-3
_IMAGENET_MEAN = (123.675, 116.28, 103.53)
_IMAGENET_DEVIATION = (58.395, 57.12, 57.375)


class ConvolutionNorm(nn.Module):
    """A convolution padded as Keras's "same", and batch statistics' normalization."""

    def __init__(
        self,
        channels: int,
        filters: int,
        kernel: int = 3,
        stride: int = 1,
        dilation: int = 1,
    ):
        super().__init__()
        # On an even size Keras pads a strided 3x3 convolution after the image only.
        self.after = kernel == 3 and stride == 2
        padding = 0 if self.after else dilation * (kernel // 2)
        self.conv = nn.Conv2d(
            channels, filters, kernel, stride, padding, dilation, bias=False
        )
        # No running averages: training does not read them.
        self.bn = nn.BatchNorm2d(filters, eps=_EPSILON, track_running_stats=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.after:
            x = functional.pad(x, (0, 1, 0, 1))
        return self.bn(self.conv(x))


class MetaDRN(nn.Module):
    """The network of `models.meta_drn` for one class, in training mode.

    Args:
      width: factor on the number of filters.
    """

    def __init__(self, width: float = 1.0):
        super().__init__()

        def filters(count: int) -> int:
            return max(1, round(width * count))

        self.units = nn.ModuleDict()
        channels = 3
        for name, count, options in (
            ("head1", 16, {"stride": 2}),
            ("head2", 64, {}),
            ("block1", 128, {"strides": 2, "dilations": (1, 1)}),
            ("block2", 256, {"strides": 1, "dilations": (1, 2)}),
            ("block3", 512, {"strides": 1, "dilations": (2, 4)}),
            ("degrid1", 512, {"dilation": 2}),
            ("degrid2", 512, {}),
        ):
            count = filters(count)
            if name.startswith("block"):
                strides, (first, second) = options["strides"], options["dilations"]
                self.units[f"{name}_shortcut"] = ConvolutionNorm(
                    channels, count, 1, strides
                )
                self.units[f"{name}_1"] = ConvolutionNorm(
                    channels, count, stride=strides, dilation=first
                )
                self.units[f"{name}_2"] = ConvolutionNorm(count, count, dilation=second)
            else:
                self.units[name] = ConvolutionNorm(channels, count, **options)
            channels = count
        # 4 x 4 values, which become as many pixels.
        self.sub_pixel = nn.Conv2d(channels, 16, 1, bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Maps images uint8 [n, H, W, 3] to logits [n, 2, H, W]."""
        x = images.to(self.sub_pixel.weight.dtype)
        x = (x - x.new_tensor(_IMAGENET_MEAN)) / x.new_tensor(_IMAGENET_DEVIATION)
        x = x.permute(0, 3, 1, 2).contiguous()
        for name in ("head1", "head2"):
            x = self._unit(name, x)
        for name in ("block1", "block2", "block3"):
            y = self.units[f"{name}_2"](self._unit(f"{name}_1", x))
            y = y + self.units[f"{name}_shortcut"](x)
            x = functional.leaky_relu(y, _SLOPE)
        for name in ("degrid1", "degrid2"):
            x = self._unit(name, x)
        x = functional.pixel_shuffle(self.sub_pixel(x), 4)
        return torch.cat([torch.zeros_like(x), x], dim=1)

    def _unit(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return functional.leaky_relu(self.units[name](x), _SLOPE)

    def keras_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Gives each parameter with the path of the Keras variable like it."""
        for name, unit in self.units.items():
            yield f"{name}_conv/kernel", unit.conv.weight
            yield f"{name}_bn/gamma", unit.bn.weight
            yield f"{name}_bn/beta", unit.bn.bias
        yield "sub_pixel_conv/kernel", self.sub_pixel.weight

    def load_keras(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Copies weights by the paths of `keras_parameters`, in Keras's layout.

        Raises:
          ValueError: an array is missing, left over, or of another shape.
        """
        parameters = dict(self.keras_parameters())
        if set(parameters) != set(arrays):
            raise ValueError(
                f"expected {sorted(parameters)}, received {sorted(arrays)}: give the "
                "weights of meta_drn"
            )
        for path, parameter in parameters.items():
            value = torch.from_numpy(np.ascontiguousarray(_transposed(arrays[path])))
            if value.shape != parameter.shape:
                raise ValueError(
                    f"{path}: expected {tuple(parameter.shape)}, received "
                    f"{tuple(value.shape)}: give the same width"
                )
            parameter.data = value.to(parameter.dtype)

    def keras_gradients(self) -> dict[str, np.ndarray]:
        """Returns the parameters' gradients in Keras's layout."""
        return {
            path: _transposed(parameter.grad.numpy(), back=True)
            for path, parameter in self.keras_parameters()
        }


def _transposed(array: np.ndarray, back: bool = False) -> np.ndarray:
    """Kernels are [h, w, in, out] in Keras and [out, in, h, w] in PyTorch."""
    if array.ndim != 4:
        return array
    return array.transpose((2, 3, 1, 0) if back else (3, 2, 0, 1))
