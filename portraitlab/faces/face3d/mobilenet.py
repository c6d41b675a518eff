"""MobileNet (Howard et al., 2017, Table 1), with the parameter names of 3DDFA's weights."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

_LAYERS = (
    ("dw2_1", 2, 1), ("dw2_2", 4, 2), ("dw3_1", 4, 1), ("dw3_2", 8, 2), ("dw4_1", 8, 1),
    ("dw4_2", 16, 2), ("dw5_1", 16, 1), ("dw5_2", 16, 1), ("dw5_3", 16, 1), ("dw5_4", 16, 1),
    ("dw5_5", 16, 1), ("dw5_6", 32, 2), ("dw6", 32, 1),
)  # fmt: skip
"""Name, width in units of the first layer's, and stride."""


class SeparableConvolution(nn.Module):
    """A depthwise and then a pointwise convolution (Sec. 3.1)."""

    def __init__(self, width: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(width, width, 3, stride, 1, groups=width, bias=False)
        self.bn_dw = nn.BatchNorm2d(width)
        self.conv_sep = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn_sep = nn.BatchNorm2d(outputs)

    def forward(self, maps: Tensor) -> Tensor:
        """Convolve maps [B, width, H, W] to [B, outputs, H / stride, W / stride]."""
        maps = functional.relu(self.bn_dw(self.conv_dw(maps)))
        return functional.relu(self.bn_sep(self.conv_sep(maps)))


class MobileNet(nn.Module):
    """A network from images [B, 3, H, W] to [B, outputs].

    width: channels of the first layer, 32 in the full network.
    """

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        before = width
        for name, times, stride in _LAYERS:
            self.add_module(name, SeparableConvolution(before, times * width, stride))
            before = times * width
        self.fc = nn.Linear(before, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Compute numbers [B, outputs]."""
        maps = functional.relu(self.bn1(self.conv1(images)))
        for name, _, _ in _LAYERS:
            maps = self.get_submodule(name)(maps)
        numbers: Tensor = self.fc(maps.mean(dim=(2, 3)))
        return numbers
