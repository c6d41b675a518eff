"""MobileFaceNet (Chen et al., CCBR 2018, Table 1), with the activations of its published weights.

Names of weights, and ReLU where the paper has PReLU, are those of foamliu/MobileFaceNet.
"""

from __future__ import annotations

from torch import Tensor, nn

# Table 1: expansion t, channels c, repetitions n, stride s of the bottlenecks.
_BOTTLENECKS = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))


def _activated(
    channels: int, width: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU6(),
    )


class _Bottleneck(nn.Module):
    """An inverted residual: expansion, depthwise convolution, linear projection."""

    def __init__(self, channels: int, width: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        self.residual = stride == 1 and channels == width
        self.conv = nn.Sequential(
            _activated(channels, inner, 1),
            _activated(inner, inner, 3, stride, groups=inner),
            nn.Conv2d(inner, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, maps: Tensor) -> Tensor:
        output: Tensor = self.conv(maps)
        return maps + output if self.residual else output


class _Separable(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, maps: Tensor) -> Tensor:
        output: Tensor = self.bn2(self.pointwise(self.bn1(self.depthwise(maps)).relu())).relu()
        return output


class _GlobalDepthwise(nn.Module):
    """A global depthwise convolution, which weighs the 7 x 7 cells instead of averaging them.

    Sec. 3.1 of the paper.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, groups=channels, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, maps: Tensor) -> Tensor:
        output: Tensor = self.bn(self.depthwise(maps))
        return output


class MobileFaceNet(nn.Module):
    """A network: crops [B, 3, 112, 112] in [-1, 1] to embeddings [B, features], not normalised."""

    def __init__(self, features: int = 128) -> None:
        super().__init__()
        self.conv1 = _activated(3, 64, 3, stride=2)
        self.dw_conv = _Separable(64)
        blocks, channels = [], 64
        for expansion, width, repetitions, stride in _BOTTLENECKS:
            for number in range(repetitions):
                step = stride if number == 0 else 1
                blocks.append(_Bottleneck(channels, width, step, expansion))
                channels = width
        self.features = nn.Sequential(*blocks)
        self.conv2 = _activated(channels, 512, 1)
        self.gdconv = _GlobalDepthwise(512)
        self.conv3 = nn.Conv2d(512, features, 1)
        self.bn = nn.BatchNorm2d(features)

    def forward(self, crops: Tensor) -> Tensor:
        """Embed crops as [B, features]."""
        maps = self.conv2(self.features(self.dw_conv(self.conv1(crops))))
        embeddings: Tensor = self.bn(self.conv3(self.gdconv(maps))).flatten(1)
        return embeddings
