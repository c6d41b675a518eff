"""Errors of matching against the renderer's truth, and the descriptors that are matched."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from portraitlab.data.world import sound_photos
from portraitlab.diffusion.backbone import Backbone
from portraitlab.method.cond.none import NoCond
from portraitlab.method.fusion.none import NoFusion
from portraitlab.method.matching import best_match, cell_centres, warp
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.none import NoNet
from portraitlab.scoring.descriptors.no_motion import NoMotion
from portraitlab.scoring.descriptors.random_places import RandomPlaces
from portraitlab.scoring.matching import (
    ViewPairs,
    found_places,
    matching_figures,
    true_places,
)
from portraitlab.world.splits import IDENTITIES
from portraitlab.world.views import correspondence, render_views

PEOPLE = IDENTITIES["development"][:3]


@pytest.fixture(scope="module")
def pairs() -> ViewPairs:
    return ViewPairs.render(PEOPLE, 30, size=64, cells=16)


@pytest.fixture
def model(tiny_backbone: Callable[..., Backbone]) -> PortraitModel:
    """A model of one picture, 64 px with 32 x 32 latents."""
    backbone = tiny_backbone(size=64)
    return PortraitModel(backbone, NoFusion(4, 4, 16), NoCond(), NoNet(backbone, False, False))


def test_a_cell_s_place_is_the_mean_of_its_pixels_offsets(pairs: ViewPairs) -> None:
    seed, cells = PEOPLE[1], 16
    half = math.radians(30) / 2
    # The second of the people is turned to the other side than the first.
    style, profile = render_views(seed, next(sound_photos(seed)), [half, -half], 64)
    found = correspondence(style, profile)
    places, person, face = (each[0] for each in true_places(style, profile, cells))
    torch.testing.assert_close(places, pairs.places[1])
    for row in range(cells):
        for column in range(cells):
            offsets, faces = [], 0
            for y in range(4 * row, 4 * row + 4):
                for x in range(4 * column, 4 * column + 4):
                    if found.visible[y, x] and style.person_mask[y, x]:
                        own = np.array([x + 0.5, y + 0.5]) / 64
                        offsets.append(found.places[y, x] - own)
                        faces += int(style.face_mask[y, x])
            assert bool(person[row, column]) == (len(offsets) >= 8)
            assert bool(face[row, column]) == (faces >= 8)
            if offsets:
                expected = np.mean(offsets, 0) + np.array([column + 0.5, row + 0.5]) / cells
                np.testing.assert_allclose(places[row, column], expected, atol=1e-5)


def test_true_places_warp_the_profile_to_the_style_picture(pairs: ViewPairs) -> None:
    shown = torch.nn.functional.interpolate(pairs.face[:, None].float(), 64)[:, 0] > 0
    warped, unmoved = (
        float((picture - pairs.style).abs().mean(dim=1)[shown].mean())
        for picture in (warp(pairs.profile, pairs.places), pairs.profile)
    )
    assert warped < 0.6 * unmoved


def value(places: torch.Tensor, pairs: ViewPairs, name: str) -> float:
    """Return a figure of two views 30 degrees apart, all pixels seen."""
    found: float = matching_figures(places, pairs, PEOPLE, 30, 1.0)[f"{name}_30"]["value"]
    return found


def test_figures_count_distances_in_cells(pairs: ViewPairs) -> None:
    assert value(pairs.places, pairs, "error") == 0
    assert value(pairs.places, pairs, "within_1") == 1
    # One and a half cells off for all, and three cells more for one pair.
    off = pairs.places + torch.tensor([1.5 / 16, 0.0])
    off[0] += torch.tensor([3 / 16, 0.0])
    figures = matching_figures(off, pairs, PEOPLE, 30, 0.2)
    values = {name: figure["value"] for name, figure in figures.items()}
    assert values == pytest.approx(
        {
            **{"error_30_of_20": 2.5, "face_error_30_of_20": 2.5, "within_1_30_of_20": 0},
            **{"within_2_30_of_20": 2 / 3, "within_4_30_of_20": 2 / 3},
        },
        abs=1e-4,
    )
    error = figures["error_30_of_20"]
    assert error["error"] == pytest.approx(1.0, abs=1e-4)
    assert error["identities"] == 3
    assert error["by_identity"] == pytest.approx(
        {str(PEOPLE[0]): 4.5, str(PEOPLE[1]): 1.5, str(PEOPLE[2]): 1.5}, abs=1e-4
    )
    assert not error["higher_is_better"]
    assert figures["within_2_30_of_20"]["higher_is_better"]


def test_a_pair_without_a_visible_face_is_left_out(pairs: ViewPairs) -> None:
    hidden = ViewPairs(*(getattr(pairs, name).clone() for name in pairs.__dataclass_fields__))
    hidden.face[1] = False
    off = pairs.places.clone()
    off[1] += 0.5
    assert value(off, hidden, "face_error") == 0
    face = matching_figures(off, hidden, PEOPLE, 30, 1.0)["face_error_30"]
    assert set(face["by_identity"]) == {str(PEOPLE[0]), str(PEOPLE[2])}
    assert value(off, hidden, "error") > 1


def test_no_motion_finds_own_places_and_random_places_are_none(
    model: PortraitModel, pairs: ViewPairs
) -> None:
    own = found_places(NoMotion(), model, pairs, 1.0, seed=0, batch_size=2)
    torch.testing.assert_close(own, cell_centres(16, 16).expand(3, -1, -1, -1))
    still = ViewPairs.render(PEOPLE, 0, size=64, cells=16)
    assert value(own, still, "error") < 1e-3
    random = found_places(RandomPlaces(), model, pairs, 1.0, seed=0, batch_size=2)
    # The mean distance of two random places is 0.52 of the side, and less from the middle.
    assert 5 < value(random, pairs, "error") < 9


def test_features_are_matched_at_their_own_resolution(
    model: PortraitModel, pairs: ViewPairs
) -> None:
    class Coarse(RandomPlaces):
        def __call__(self, *given):
            own, other = super().__call__(*given)
            return own[..., :8, :8], other[..., :8, :8]

    found = found_places(Coarse(), model, pairs, 1.0, seed=0, batch_size=3)
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(3, 16, 32, 32, generator=generator)[..., :8, :8] for _ in range(2))
    moved = best_match(one, other).places - cell_centres(8, 8)
    finer = torch.nn.Upsample(size=(16, 16), mode="bilinear")
    expected = cell_centres(16, 16) + finer(moved.movedim(-1, 1)).movedim(1, -1)
    torch.testing.assert_close(found, expected)


def test_all_descriptors_see_the_same_pixels_of_a_pair(
    model: PortraitModel, pairs: ViewPairs
) -> None:
    seen: dict[int, list[torch.Tensor]] = {}

    class Seeing(RandomPlaces):
        def __init__(self, noises: int) -> None:
            self.noises = noises

        def __call__(self, model, pair, generator):
            torch.randn(self.noises, generator=generator)
            seen.setdefault(self.noises, []).append(pair.sampled)
            return super().__call__(model, pair, generator)

    for noises, batch_size in ((1, 3), (2, 1)):
        found_places(Seeing(noises), model, pairs, 0.2, seed=0, batch_size=batch_size)
    assert torch.equal(torch.cat(seen[1]), torch.cat(seen[2]))
