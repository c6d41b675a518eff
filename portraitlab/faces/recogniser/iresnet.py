"""ArcFace's residual network (Deng et al., CVPR 2019, Sec. 2.1: BN-Conv-BN-PReLU-Conv-BN units).

Names of weights are those of insightface's recognition/arcface_torch.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

_WIDTHS = (64, 128, 256, 512)


class _Unit(nn.Module):
    """An improved residual unit: normalised first, activated once, strided in its second layer."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.prelu = nn.PReLU(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or channels != width:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.prelu(self.bn2(self.conv1(self.bn1(maps))))
        output: Tensor = self.bn3(self.conv2(inner)) + self.downsample(maps)
        return output


class IResNet(nn.Module):
    """A network: crops [B, 3, 112, 112] in [-1, 1] to embeddings [B, features], not normalised.

    depths: residual units at 56, 28, 14 and 7 pixels; (2, 2, 2, 2), (3, 4, 6, 3), (3, 4, 14, 3) and
    (3, 13, 30, 3) are the published iresnet18, 34, 50 and 100. features: width of the embedding.
    """

    def __init__(self, depths: Iterable[int], features: int = 512) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.prelu = nn.PReLU(64)
        channels = 64
        for number, (depth, width) in enumerate(zip(depths, _WIDTHS, strict=True), start=1):
            units = [_Unit(channels if i == 0 else width, width, 2 - (i > 0)) for i in range(depth)]
            setattr(self, f"layer{number}", nn.Sequential(*units))
            channels = width
        self.bn2 = nn.BatchNorm2d(512)
        self.fc = nn.Linear(512 * 7 * 7, features)
        self.features = nn.BatchNorm1d(features)

    def forward(self, crops: Tensor) -> Tensor:
        """Embed crops as [B, features]."""
        maps = self.prelu(self.bn1(self.conv1(crops)))
        for number in range(1, 5):
            maps = getattr(self, f"layer{number}")(maps)
        embeddings: Tensor = self.features(self.fc(self.bn2(maps).flatten(1)))
        return embeddings
