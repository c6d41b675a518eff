"""Mask Guided Face Fusion: AdaIN of two feature maps under a face's mask (FPGA, Alg. 1)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from portraitlab.support.checks import check_choice

Statistics = Literal["inside", "outside", "whole"]
Product = Literal["weights", "zeros"]
Outside = Literal["cached", "own", "modulated"]


class MaskGuidedFusion:
    """Algorithm 1's AdaIN(R * M, C * (1 - M)) of restored features R and cached features C.

    AdaIN (Huang and Belongie, ICCV 2017, eq. 8) moves mean and standard deviation of each channel
    of R to those of C. The paper does not define the products; each interpretation is a setting.

    statistics: part of the cached map whose mean and deviation are taken. "outside" the mask is as
    printed; "inside" is the broken face, "whole" the crop. product: "weights" weights the positions
    of mean and deviation by the mask; "zeros" multiplies the features by it, so that masked
    positions count as zeros. outside: result outside the mask. "cached" is C, which keeps the
    background; "own" is R; "modulated" is the AdaIN's result, as printed.

    Raises ValueError for other names.
    """

    def __init__(
        self,
        statistics: Statistics = "inside",
        product: Product = "weights",
        outside: Outside = "cached",
    ) -> None:
        check_choice("edit.statistics", statistics, ("inside", "outside", "whole"))
        check_choice("edit.product", product, ("weights", "zeros"))
        check_choice("edit.outside", outside, ("cached", "own", "modulated"))
        self.statistics = statistics
        self.product = product
        self.outside = outside

    def __call__(self, restored: Tensor, cached: Tensor, mask: Tensor) -> Tensor:
        """Fuse features [F, P, C] of P positions under masks [F, P] in [0, 1]."""
        inside = mask[..., None].to(restored)
        cached = cached.to(restored)
        chosen = {"inside": inside, "outside": 1 - inside, "whole": torch.ones_like(inside)}
        style = chosen[self.statistics]
        if self.product == "zeros":
            everywhere = torch.ones_like(inside)
            moved = adain(restored * inside, everywhere, cached * style, everywhere)
        else:
            moved = adain(restored, inside, cached, style)
        if self.outside == "modulated":
            return moved
        kept = cached if self.outside == "cached" else restored
        return kept + inside * (moved - kept)


def adain(content: Tensor, content_weight: Tensor, style: Tensor, style_weight: Tensor) -> Tensor:
    """Give content [F, P, C] the style's mean and standard deviation over positions, by channel.

    content_weight, style_weight [F, P, 1]: weights of the positions in mean and deviation.
    """
    mean, deviation = _moments(content, content_weight)
    style_mean, style_deviation = _moments(style, style_weight)
    return (content - mean) / deviation * style_deviation + style_mean


def _moments(features: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    share = weight / weight.sum(1, keepdim=True).clamp(min=1e-6)
    mean = (share * features).sum(1, keepdim=True)
    variance = (share * (features - mean).square()).sum(1, keepdim=True)
    return mean, (variance + 1e-5).sqrt()  # 1e-5 as published, against division by zero
