"""Inception-ResNet-v1 (Szegedy et al., AAAI 2017, Fig. 10 to 14) for FaceNet's weights.

Names of weights, and sizes where they differ from the paper, are those of facenet-pytorch.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

_Kernel = int | tuple[int, int]


class _Convolution(nn.Module):
    def __init__(
        self, channels: int, width: int, kernel: _Kernel, stride: int = 1, padding: _Kernel = 0
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(width, eps=1e-3)  # TensorFlow's

    def forward(self, maps: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(maps)))


class _Block(nn.Module):
    """Parallel branches, mixed, scaled and added to their input."""

    def __init__(
        self, channels: int, branches: Iterable[nn.Module], inner: int, scale: float, last: bool
    ) -> None:
        super().__init__()
        self.scale, self.last = scale, last
        for number, branch in enumerate(branches):
            setattr(self, f"branch{number}", branch)
        self.branches = number + 1
        self.conv2d = nn.Conv2d(inner, channels, 1)

    def forward(self, maps: Tensor) -> Tensor:
        outputs = [getattr(self, f"branch{number}")(maps) for number in range(self.branches)]
        mixed: Tensor = maps + self.scale * self.conv2d(torch.cat(outputs, dim=1))
        return mixed if self.last else mixed.relu()


class _Reduction(nn.Module):
    """Parallel strided branches and max pooling: half the size, all channels concatenated."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        for number, branch in enumerate(branches):
            setattr(self, f"branch{number}", branch)
        self.branches = len(branches)

    def forward(self, maps: Tensor) -> Tensor:
        outputs = [getattr(self, f"branch{number}")(maps) for number in range(self.branches)]
        return torch.cat([*outputs, functional.max_pool2d(maps, 3, 2)], dim=1)


def _block35() -> nn.Module:
    branches = (
        _Convolution(256, 32, 1),
        nn.Sequential(_Convolution(256, 32, 1), _Convolution(32, 32, 3, padding=1)),
        nn.Sequential(
            _Convolution(256, 32, 1),
            _Convolution(32, 32, 3, padding=1),
            _Convolution(32, 32, 3, padding=1),
        ),
    )
    return _Block(256, branches, 96, scale=0.17, last=False)


def _crossed(channels: int, width: int, length: int, scale: float, last: bool = False) -> nn.Module:
    """Build a pointwise branch beside a row and a column filter of `length` (blocks 17 and 8)."""
    half = length // 2
    branches = (
        _Convolution(channels, width, 1),
        nn.Sequential(
            _Convolution(channels, width, 1),
            _Convolution(width, width, (1, length), padding=(0, half)),
            _Convolution(width, width, (length, 1), padding=(half, 0)),
        ),
    )
    return _Block(channels, branches, 2 * width, scale, last)


class InceptionResnetV1(nn.Module):
    """A network from standardised crops [B, 3, 160, 160] to embeddings [B, 512], not normalised."""

    def __init__(self) -> None:
        super().__init__()
        # Stem, from 160 to 17 pixels.
        self.conv2d_1a = _Convolution(3, 32, 3, stride=2)
        self.conv2d_2a = _Convolution(32, 32, 3)
        self.conv2d_2b = _Convolution(32, 64, 3, padding=1)
        self.conv2d_3b = _Convolution(64, 80, 1)
        self.conv2d_4a = _Convolution(80, 192, 3)
        self.conv2d_4b = _Convolution(192, 256, 3, stride=2)
        # Residual blocks at 17, 8 and 3 pixels.
        self.repeat_1 = nn.Sequential(*(_block35() for _ in range(5)))
        self.mixed_6a = _Reduction(
            _Convolution(256, 384, 3, stride=2),
            nn.Sequential(
                _Convolution(256, 192, 1),
                _Convolution(192, 192, 3, padding=1),
                _Convolution(192, 256, 3, stride=2),
            ),
        )
        self.repeat_2 = nn.Sequential(*(_crossed(896, 128, 7, scale=0.1) for _ in range(10)))
        self.mixed_7a = _Reduction(
            nn.Sequential(_Convolution(896, 256, 1), _Convolution(256, 384, 3, stride=2)),
            nn.Sequential(_Convolution(896, 256, 1), _Convolution(256, 256, 3, stride=2)),
            nn.Sequential(
                _Convolution(896, 256, 1),
                _Convolution(256, 256, 3, padding=1),
                _Convolution(256, 256, 3, stride=2),
            ),
        )
        self.repeat_3 = nn.Sequential(*(_crossed(1792, 192, 3, scale=0.2) for _ in range(5)))
        self.block8 = _crossed(1792, 192, 3, scale=1.0, last=True)
        # Embedding.
        self.last_linear = nn.Linear(1792, 512, bias=False)
        self.last_bn = nn.BatchNorm1d(512, eps=1e-3)

    def forward(self, crops: Tensor) -> Tensor:
        """Embed crops as [B, 512]."""
        maps = self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(crops)))
        maps = self.conv2d_3b(functional.max_pool2d(maps, 3, 2))
        maps = self.repeat_1(self.conv2d_4b(self.conv2d_4a(maps)))
        maps = self.repeat_2(self.mixed_6a(maps))
        maps = self.block8(self.repeat_3(self.mixed_7a(maps)))
        embeddings: Tensor = self.last_bn(self.last_linear(maps.mean(dim=(2, 3))))
        return embeddings
