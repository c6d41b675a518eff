"""Matching, warping and aggregation, beside loops written from the paper's equations."""

from math import dist, exp, sqrt

import pytest
import torch
from torch import Tensor

from portraitlab.method import matching
from portraitlab.method.matching import (
    aggregate,
    annealed_weights,
    best_match,
    cell_centres,
    cost_volume,
    soft_match,
    warp,
)
from portraitlab.world.views import correspondence, render_views


def features(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def cosine(one: Tensor, two: Tensor) -> float:
    """Equation 5, of two vectors."""
    product = sum(float(a) * float(b) for a, b in zip(one, two, strict=True))
    lengths = [sqrt(sum(float(a) ** 2 for a in each)) for each in (one, two)]
    return product / (lengths[0] * lengths[1])


def slow_best(source: Tensor, target: Tensor, y: int, x: int) -> tuple[float, int, int]:
    """Equation 6, of the source's cell (x, y): cosine, row and column of the best match."""
    _, height, width = target.shape
    return max(
        (cosine(source[:, y, x], target[:, row, column]), row, column)
        for row in range(height)
        for column in range(width)
    )


@pytest.fixture(params=[1, 37, 2**22], ids=["cell by cell", "uneven parts", "whole"])
def part(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(matching, "PART", request.param)
    return int(request.param)


def test_parts_of_the_cost_volume_are_equation_5(part: int) -> None:
    source, target = features(2, 5, 3, 4), features(2, 5, 2, 6, seed=1)
    parts = list(cost_volume(source, target))
    assert len(parts) == {1: 12, 37: 12, 2**22: 1}[part]
    volume = torch.cat(parts, dim=1).view(2, 3, 4, 2, 6)
    for sample, y, x, row, column in [(0, 0, 0, 0, 0), (1, 2, 3, 1, 5), (1, 0, 2, 1, 0)]:
        expected = cosine(source[sample, :, y, x], target[sample, :, row, column])
        assert float(volume[sample, y, x, row, column]) == pytest.approx(expected, abs=1e-6)


def test_the_best_match_is_equation_6(part: int) -> None:
    source, target = features(2, 4, 3, 4), features(2, 4, 5, 2, seed=1)
    match = best_match(source, target)
    assert match.places.shape == (2, 3, 4, 2)
    for sample in range(2):
        for y in range(3):
            for x in range(4):
                value, row, column = slow_best(source[sample], target[sample], y, x)
                place = match.places[sample, y, x].tolist()
                assert place == pytest.approx([(column + 0.5) / 2, (row + 0.5) / 5])
                assert float(match.confidence[sample, y, x]) == pytest.approx(value, abs=1e-6)


def test_the_soft_match_is_a_mean_around_the_best(part: int) -> None:
    source, target = features(1, 4, 3, 4), features(1, 4, 5, 6, seed=1)
    match = soft_match(source, target, temperature=0.3, radius=1)
    for y in range(3):
        for x in range(4):
            _, row, column = slow_best(source[0], target[0], y, x)
            near = [
                (exp(cosine(source[0, :, y, x], target[0, :, i, j]) / 0.3), (j + 0.5) / 6, i)
                for i in range(max(0, row - 1), min(5, row + 2))
                for j in range(max(0, column - 1), min(6, column + 2))
            ]
            total = sum(weight for weight, _, _ in near)
            expected = [
                sum(weight * across for weight, across, _ in near) / total,
                sum(weight * (i + 0.5) / 5 for weight, _, i in near) / total,
            ]
            assert match.places[0, y, x].tolist() == pytest.approx(expected, abs=1e-5)
    sharp, best = soft_match(source, target, temperature=1e-4), best_match(source, target)
    torch.testing.assert_close(sharp.places, best.places, atol=1e-4, rtol=0)
    torch.testing.assert_close(sharp.confidence, best.confidence)


@pytest.mark.parametrize("find", [best_match, soft_match])
def test_a_picture_matches_itself_and_its_shifted_copy(find) -> None:
    picture = features(2, 16, 8, 10)
    itself = find(picture, picture, **({} if find is best_match else {"temperature": 1e-3}))
    own = cell_centres(8, 10)
    torch.testing.assert_close(itself.places, own.expand(2, -1, -1, -1))
    torch.testing.assert_close(itself.confidence, torch.ones(2, 8, 10))
    shifted = torch.roll(picture, (1, -3), dims=(2, 3))  # one cell down, three to the left
    match = find(picture, shifted, **({} if find is best_match else {"temperature": 1e-3}))
    flow = (match.places - own)[:, :-1, 3:] * torch.tensor([10, 8])
    torch.testing.assert_close(flow, torch.tensor([-3.0, 1.0]).expand_as(flow), atol=1e-4, rtol=0)


def test_lengths_and_half_precision_do_not_matter() -> None:
    source, target = features(1, 16, 6, 6), features(1, 16, 6, 6, seed=1)
    plain = best_match(source, target)
    scaled = best_match(source * 7, target * features(1, 1, 6, 6, seed=2).abs())
    torch.testing.assert_close(scaled.places, plain.places)
    half = best_match(source.bfloat16(), target.bfloat16())
    assert half.places.dtype == torch.float32
    assert (half.places == plain.places).float().mean() > 0.9


def slow_warp(values: Tensor, places: Tensor) -> Tensor:
    """Bilinear samples of [C, h, w] at places [h, w, 2]; the border is repeated."""
    channels, height, width = values.shape
    warped = torch.zeros(channels, *places.shape[:2])
    for y in range(places.shape[0]):
        for x in range(places.shape[1]):
            across = min(max(float(places[y, x, 0]) * width - 0.5, 0), width - 1)
            down = min(max(float(places[y, x, 1]) * height - 0.5, 0), height - 1)
            for row in range(height):
                for column in range(width):
                    weight = max(0, 1 - abs(row - down)) * max(0, 1 - abs(column - across))
                    warped[:, y, x] += weight * values[:, row, column]
    return warped


def test_the_warp_samples_between_cells_and_repeats_the_border() -> None:
    values = features(2, 3, 4, 5)
    places = 1.4 * torch.rand(2, 4, 5, 2, generator=torch.Generator().manual_seed(3)) - 0.2
    expected = torch.stack([slow_warp(*each) for each in zip(values, places, strict=True)])
    torch.testing.assert_close(warp(values, places), expected, atol=1e-5, rtol=0)
    assert warp(values.bfloat16(), places).dtype == torch.bfloat16


@pytest.mark.parametrize("cells", [(4, 4), (16, 8), (8, 32)])
def test_no_motion_moves_nothing_at_any_size(cells: tuple[int, int]) -> None:
    values = features(1, 3, 8, 8)
    torch.testing.assert_close(warp(values, cell_centres(*cells)[None]), values)
    # a shift of an eighth of the picture is one cell of eight
    shifted = warp(values, (cell_centres(*cells) + torch.tensor([0.125, 0.0]))[None])
    torch.testing.assert_close(shifted[..., :-1], values[..., 1:])


@pytest.mark.parametrize("degrees", [20, 45])
def test_the_true_places_bring_one_view_to_another(degrees: int) -> None:
    """The warped view is nearer to the other one, where that is visible, than the unwarped one."""
    errors: dict[str, list[float]] = {"warped": [], "unmoved": []}
    for seed in (300_000, 300_001, 300_014):
        style, profile = render_views(seed, 0, [0.0, degrees * torch.pi / 180], size=128)
        found = correspondence(style, profile)
        visible = torch.from_numpy(found.visible & style.person_mask)
        pictures = [
            torch.from_numpy(view.image).permute(2, 0, 1)[None].float() / 255
            for view in (style, profile)
        ]
        warped = warp(pictures[1], torch.from_numpy(found.places)[None])
        for name, other in (("warped", warped), ("unmoved", pictures[1])):
            off = (other - pictures[0]).abs().mean(1)[0]
            errors[name].append(float(off[visible].mean()))
    for warped_error, unmoved in zip(errors["warped"], errors["unmoved"], strict=True):
        assert warped_error < 0.5 * unmoved
        assert warped_error < 0.05


def test_weights_fall_from_the_input_to_the_middle_block() -> None:
    weights = annealed_weights(12, alpha=0.6, beta=0.3)
    assert len(weights) == 13
    for level, weight in enumerate(weights):
        assert weight == pytest.approx((1 - level / 12) * 0.6 + 0.3)
    assert weights[0] == pytest.approx(0.9)
    assert weights[-1] == 0.3
    assert set(annealed_weights(4, alpha=0.0, beta=0.5)) == {0.5}


def test_aggregation_adds_the_warped_profile_to_the_style_picture() -> None:
    residuals = [features(2, 3, 8, 16), features(2, 5, 4, 8, seed=1)]
    places = torch.rand(2, 8, 8, 2, generator=torch.Generator().manual_seed(2))
    joined = aggregate(residuals, places, [0.9, 0.4])
    for residual, other, weight in zip(residuals, joined, [0.9, 0.4], strict=True):
        style, profile = residual.chunk(2, dim=-1)
        expected = torch.cat([style + weight * warp(profile, places), profile], dim=-1)
        torch.testing.assert_close(other, expected)
        assert dist(other.flatten().tolist(), residual.flatten().tolist()) > 0.1


def test_a_match_that_is_not_trusted_changes_no_bit() -> None:
    residuals = [features(3, 3, 4, 8), features(3, 3, 2, 4, seed=1).bfloat16()]
    residuals[0][0, 0, 0, 0] = -0.0
    places = torch.rand(3, 4, 4, 2, generator=torch.Generator().manual_seed(2))
    for weights, trusted in (([0.0, 0.0], None), ([0.9, 0.4], torch.zeros(3, dtype=torch.bool))):
        for before, after in zip(
            residuals, aggregate(residuals, places, weights, trusted), strict=True
        ):
            assert after.dtype == before.dtype
            assert (after.view(torch.int16) == before.view(torch.int16)).all()
    both = aggregate(residuals[:1], places, [1.0], torch.tensor([True, False, True]))[0]
    alone = aggregate(residuals[:1], places, [1.0])[0]
    assert torch.equal(both[1], residuals[0][1])
    assert torch.equal(both[[0, 2]], alone[[0, 2]])
    half = aggregate(residuals[:1], places, [1.0], torch.full((3,), 0.5))[0]
    torch.testing.assert_close(half - residuals[0], (alone - residuals[0]) / 2)


def test_an_odd_width_is_refused() -> None:
    with pytest.raises(ValueError, match="7 cells wide"):
        aggregate([features(1, 2, 4, 7)], cell_centres(4, 4)[None], [1.0])


def test_gradients_reach_the_residuals_and_the_soft_match() -> None:
    source, target = (features(1, 4, 4, 4, seed=seed).requires_grad_() for seed in (0, 1))
    residual = features(1, 2, 4, 8).requires_grad_()
    joined = aggregate([residual], soft_match(source, target).places, [0.5])[0]
    joined.square().sum().backward()
    for leaf in (source, target, residual):
        assert leaf.grad is not None
        assert leaf.grad.abs().sum() > 0
