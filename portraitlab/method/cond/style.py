"""Pixels sampled at random from the style picture (IC-Portrait, Sec. 3.3)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from portraitlab.method.cond.base import Cond
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
            if not 0 < share <= 1:
                raise ValueError(f"cond.{name} is {share}; it must be above 0 and at most 1.")
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
            kept.append(torch.rand(style.shape[-2:], generator=generator) < share)
        return style.where(torch.stack(kept).to(style.device)[:, None], -torch.ones_like(style))
