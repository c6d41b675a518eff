"""Blind restoration of a broken face: the world's CodeFormer, without its codebook.

CodeFormer (Zhou et al., NeurIPS 2022) looks the face up in a learned codebook; a residual UNet of a
quarter of a million weights has none, and shares with it the input alone: the broken face.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

CONFIG = {"widths": [24, 40, 64], "depths": [1, 1, 2]}
GROUPS = 8
"""Groups of channels that are normalised; each width is a multiple."""


class _Block(nn.Module):
    """A residual block of two convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.second(functional.silu(self.first(functional.silu(self.norm(maps)))))


def _blocks(width: int, depth: int) -> nn.Sequential:
    return nn.Sequential(*(_Block(width) for _ in range(depth)))


class FaceRestorer(nn.Module):
    """A residual UNet from a broken face [B, 3, H, W] in [-1, 1] to a clean one of the same size.

    H and W are multiples of 2 to the number of widths. The face is framed as a portrait
    (portraitlab.method.edit.squares) of image_size pixels. A new net returns its input. widths,
    depths: channels and blocks of each level, from half the resolution down.
    """

    image_size = 128

    def __init__(self, widths: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__()
        finest, *_ = widths
        steps = list(pairwise(widths))
        self.stem = nn.Conv2d(12, finest, 3, padding=1)
        self.down = nn.ModuleList(map(_blocks, widths[:-1], depths))
        self.shrink = nn.ModuleList(
            nn.Conv2d(fine, coarse, 3, stride=2, padding=1) for fine, coarse in steps
        )
        self.middle = _blocks(widths[-1], depths[-1])
        self.grow = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in steps)
        self.join = nn.ModuleList(nn.Conv2d(2 * fine, fine, 1) for fine, _ in steps)
        self.up = nn.ModuleList(map(_blocks, widths[:-1], depths))
        self.head = nn.Conv2d(finest, 12, 3, padding=1)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)

    def forward(self, images: Tensor) -> Tensor:
        """Restore images [B, 3, H, W]; the result may leave [-1, 1] slightly."""
        maps = self.stem(functional.pixel_unshuffle(images, 2))
        skips: list[Tensor] = []
        for blocks, shrink in zip(self.down, self.shrink, strict=True):
            skips.append(blocks(maps))
            maps = shrink(skips[-1])
        maps = self.middle(maps)
        ways = zip(skips, self.grow, self.join, self.up, strict=True)
        for skip, grow, join, blocks in reversed(list(ways)):
            finer = functional.interpolate(grow(maps), scale_factor=2.0, mode="nearest")
            maps = blocks(join(torch.cat([skip, finer], 1)))
        return images + functional.pixel_shuffle(self.head(maps), 2)
