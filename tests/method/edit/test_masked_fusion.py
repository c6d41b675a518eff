"""Mask Guided Face Fusion against a slow reference, and its properties."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from portraitlab.method.edit.fusion import MaskGuidedFusion


def slow_adain(content: list[Tensor], style: list[Tensor]) -> list[Tensor]:
    """Huang and Belongie (2017), eq. 8, of the values of one channel at all their positions."""
    x, y = torch.stack(content), torch.stack(style)

    def deviation(values: Tensor) -> Tensor:
        return (((values - values.mean()) ** 2).mean() + 1e-5) ** 0.5

    return [deviation(y) * (value - x.mean()) / deviation(x) + y.mean() for value in content]


@pytest.fixture
def maps() -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    own, cached = torch.randn(2, 2, 9, 3, generator=draw)
    mask = torch.tensor([[1.0, 1, 1, 1, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1, 1, 1, 1]])
    return own, 0.5 + 2 * cached, mask


def test_as_printed_the_products_are_features_times_the_mask(maps) -> None:
    own, cached, mask = maps
    printed = MaskGuidedFusion("outside", "zeros", "modulated")(own, cached, mask)
    for face in range(2):
        for channel in range(3):
            restored = [own[face, p, channel] * mask[face, p] for p in range(9)]
            broken = [cached[face, p, channel] * (1 - mask[face, p]) for p in range(9)]
            expected = torch.stack(slow_adain(restored, broken))
            torch.testing.assert_close(printed[face, :, channel], expected)


@pytest.mark.parametrize("statistics", ["inside", "outside", "whole"])
def test_with_weights_the_statistics_are_of_the_masked_positions(maps, statistics) -> None:
    own, cached, mask = maps
    fused = MaskGuidedFusion(statistics)(own, cached, mask)
    for face in range(2):
        inside = [p for p in range(9) if mask[face, p]]
        outside = [p for p in range(9) if not mask[face, p]]
        style = {"inside": inside, "outside": outside, "whole": range(9)}[statistics]
        for channel in range(3):
            expected = slow_adain(
                [own[face, p, channel] for p in inside], [cached[face, p, channel] for p in style]
            )
            got = [fused[face, p, channel] for p in inside]
            torch.testing.assert_close(torch.stack(got), torch.stack(expected))
        assert torch.equal(fused[face, outside], cached[face, outside])


def test_features_fused_with_themselves_are_unchanged(maps) -> None:
    own, _, mask = maps
    torch.testing.assert_close(MaskGuidedFusion()(own, own, mask), own)


def test_the_outside_is_cached_own_or_modulated(maps) -> None:
    own, cached, mask = maps
    outside = mask == 0
    fused = {
        name: MaskGuidedFusion(outside=name)(own, cached, mask)
        for name in ("cached", "own", "modulated")
    }
    assert torch.equal(fused["cached"][outside], cached[outside])
    assert torch.equal(fused["own"][outside], own[outside])
    assert not torch.allclose(fused["modulated"][outside], own[outside])
    for each in fused.values():
        torch.testing.assert_close(each[~outside], fused["own"][~outside])


def test_a_mask_of_nothing_and_a_flat_map_give_numbers(maps) -> None:
    own, cached, mask = maps
    assert torch.equal(MaskGuidedFusion()(own, cached, torch.zeros_like(mask)), cached)
    assert MaskGuidedFusion("outside")(torch.ones_like(own), cached, mask).isfinite().all()


@pytest.mark.parametrize("setting", ["statistics", "product", "outside"])
def test_other_names_are_refused(setting) -> None:
    with pytest.raises(ValueError, match=f"edit.{setting}=some: choose one of"):
        MaskGuidedFusion(**{setting: "some"})
