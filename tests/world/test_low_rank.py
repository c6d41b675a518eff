"""Weights as low-rank differences."""

import torch
from torch import nn

from portraitlab.world.low_rank import add_differences, low_rank_differences


def test_changes_of_the_rank_are_kept_and_others_are_the_nearest() -> None:
    torch.manual_seed(0)
    base = nn.ModuleDict({"deep": nn.Conv2d(24, 32, 3), "flat": nn.Linear(40, 40)}).state_dict()
    low = torch.randn(32, 2) @ torch.randn(2, 24 * 9)
    full = torch.randn(40, 40)
    weights = {
        **base,
        "deep.weight": base["deep.weight"] + low.view(32, 24, 3, 3),
        "flat.weight": base["flat.weight"] + full,
        "own.weight": torch.randn(3, 5),
    }
    stored = low_rank_differences(weights, base, rank=4)
    assert stored["deep.weight.up"].shape == (32, 4)
    assert sum(each.numel() for each in stored.values()) < 0.3 * sum(
        each.numel() for each in weights.values()
    )
    back = add_differences(stored, base)
    assert set(back) == set(weights)
    for name in ("deep.weight", "deep.bias", "flat.bias", "own.weight"):
        torch.testing.assert_close(back[name], weights[name], atol=1e-4, rtol=1e-4)
    # The nearest of the rank leaves the smallest singular values.
    left = (back["flat.weight"] - weights["flat.weight"]).square().sum()
    smallest = torch.linalg.svdvals(full)[4:].square().sum()
    torch.testing.assert_close(left, smallest, atol=1e-3, rtol=1e-4)


def test_what_would_not_be_smaller_is_kept() -> None:
    base = {"weight": torch.zeros(6, 6)}
    weights = {"weight": torch.randn(6, 6)}
    assert low_rank_differences(weights, base, rank=3) == weights
