"""Pixels sampled at random from the style picture (IC-Portrait, Sec. 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from portraitlab.method.cond.base import Cond
from portraitlab.support.checks import check_number
from portraitlab.types import Pictures


class StyleCond(Cond):
    """Show a random share of the style picture's pixels, on black; F of eq. 1.

    So few pixels give light and shading away, and hardly an identity. most: n of eq. 1, the largest
    share of pixels in training, where each sample's share is uniform in (0, most); the paper masks
    "a high proportion, e.g. 80 %". drawn: share in drawing, a setting of the paper's figure 7.

    Raises ValueError for a share outside (0, 1].
    """

    wants: ClassVar[tuple[str, ...]] = ("pictures",)

    def __init__(self, most: float = 0.2, drawn: float = 0.2) -> None:
        super().__init__()
        for name, share in (("most", most), ("drawn", drawn)):
            check_number(f"cond.{name}", share, above=0, most=1)
        self.most = most
        self.drawn = drawn

    def sample(self, pictures: Pictures) -> Tensor:
        """Keep the pixels of style pictures that their seeds draw: [B, 3, H, W] in [-1, 1]."""
        style = pictures.style
        kept = []
        for seed in pictures.seed.tolist():
            generator = torch.Generator().manual_seed(seed)
            share = self.drawn
            if self.training:
                share = self.most * float(torch.rand((), generator=generator))
            kept.append(sampled_pixels(style.shape[-2:], share, generator))
        return on_black(style, torch.stack(kept))


def sampled_pixels(size: Sequence[int], share: float, generator: torch.Generator) -> Tensor:
    """Draw the pixels [H, W] bool that are kept, each by the probability `share`."""
    return torch.rand(tuple(size), generator=generator) < share


def on_black(pictures: Tensor, kept: Tensor) -> Tensor:
    """Show the kept pixels [B, H, W] of pictures [B, 3, H, W] in [-1, 1] on black."""
    return pictures.where(kept.to(pictures.device)[:, None], -torch.ones_like(pictures))
