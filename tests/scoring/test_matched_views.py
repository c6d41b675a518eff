"""Errors of matching against the renderer's truth, and the descriptors that are matched."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from diffusers.models.embeddings import ImageProjection
from torch import Tensor

from portraitlab.data.world import sound_photos
from portraitlab.diffusion.backbone import Backbone
from portraitlab.method.cond.none import NoCond
from portraitlab.method.cond.style import StyleCond
from portraitlab.method.fusion.none import NoFusion
from portraitlab.method.matching import best_match, cell_centres, warp
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.in_context import InContext
from portraitlab.method.net.none import NoNet
from portraitlab.method.transform.side_by_side import SideBySide
from portraitlab.scoring.descriptors import (
    Dift,
    MatchingNet,
    NoDescriptors,
    NoMotion,
    RandomPlaces,
    SampledPair,
)
from portraitlab.scoring.matching import (
    ViewPairs,
    found_places,
    matching_figures,
    true_places,
)
from portraitlab.types import Injection
from portraitlab.world.models.text_to_image import CanvasImagePrompt
from portraitlab.world.pretrained import load_clip
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


@pytest.fixture
def in_context(tiny_backbone: Callable[..., Backbone]) -> PortraitModel:
    """IC-Portrait's model, with an image prompt of the world's CLIP."""
    backbone = tiny_backbone(size=64)
    prompt = CanvasImagePrompt(load_clip(), ImageProjection(96, 16, 2))
    net = InContext(backbone, True, False, prompt, layer=2)
    # Open the embedding of the control image, which starts at zero.
    torch.nn.init.normal_(net.controlnet.controlnet_cond_embedding.conv_out.weight, std=0.2)
    return PortraitModel(backbone, NoFusion(4, 4, 16), StyleCond(), net, SideBySide()).eval()


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


def test_figures_count_distances_in_cells(pairs: ViewPairs) -> None:
    exact = matching_figures(pairs.places, pairs)
    assert exact["person"]["end_point_error"].value == 0
    assert exact["face"]["within_1"].value == 1
    # One and a half cells off for all, and three cells more for one pair.
    off = pairs.places + torch.tensor([1.5 / 16, 0.0])
    off[0] += torch.tensor([3 / 16, 0.0])
    figures = matching_figures(off, pairs)["face"]
    values = {name: estimate.value for name, estimate in figures.items()}
    expected = {"end_point_error": 2.5, "within_1": 0, "within_2": 2 / 3, "within_4": 2 / 3}
    assert values == pytest.approx(expected, abs=1e-5)
    assert figures["end_point_error"].error == pytest.approx(1.0, abs=1e-5)
    assert exact["person"]["within_4"].identities == 3


def test_a_pair_without_a_visible_face_is_left_out(pairs: ViewPairs) -> None:
    hidden = ViewPairs(*(getattr(pairs, name).clone() for name in pairs.__dataclass_fields__))
    hidden.face[1] = False
    off = pairs.places.clone()
    off[1] += 0.5
    figures = matching_figures(off, hidden)
    assert figures["face"]["end_point_error"].value == 0
    assert figures["face"]["end_point_error"].identities == 2
    assert figures["person"]["end_point_error"].value > 1


def test_no_motion_finds_own_places_and_random_places_are_none(
    model: PortraitModel, pairs: ViewPairs
) -> None:
    own = found_places(NoMotion(), model, pairs, 1.0, seed=0, batch_size=2)
    torch.testing.assert_close(own, cell_centres(16, 16).expand(3, -1, -1, -1))
    still = ViewPairs.render(PEOPLE, 0, size=64, cells=16)
    assert matching_figures(own, still)["person"]["end_point_error"].value < 1e-3
    random = found_places(RandomPlaces(), model, pairs, 1.0, seed=0, batch_size=2)
    # The mean distance of two random places is 0.52 of the side, and less from the middle.
    error = matching_figures(random, pairs)["person"]["end_point_error"].value
    assert 5 < error < 9


def test_dift_is_the_mean_over_noises_of_an_up_block(
    model: PortraitModel, pairs: ViewPairs
) -> None:
    backbone, dift = model.backbone, Dift(timestep=100, block=0, noises=2)
    pair = SampledPair(pairs.style, pairs.style, pairs.profile)
    with torch.no_grad():
        style, profile = dift(model, pair, torch.Generator().manual_seed(3))

        # The same by what the next block is given.
        given: list[Tensor] = []
        backbone.unet.up_blocks[1].register_forward_pre_hook(
            lambda _, __, named: given.append(named["hidden_states"]), with_kwargs=True
        )
        generator, timesteps = torch.Generator().manual_seed(3), torch.full((3,), 100)
        latents = backbone.encode(pairs.style)
        for _ in range(2):
            noise = torch.randn(latents.shape, generator=generator)
            noisy = backbone.add_noise(latents, noise, timesteps)
            backbone.predict(noisy, timesteps, backbone.encode_text([""]).expand(3), Injection())
    torch.testing.assert_close(style, (given[0] + given[1]) / 2)
    assert profile.shape == style.shape
    assert not torch.equal(profile, style)
    assert not backbone.unet.up_blocks[0]._forward_hooks


def test_the_matching_net_reads_both_pictures(
    model: PortraitModel, in_context: PortraitModel, pairs: ViewPairs
) -> None:
    def features(pair: SampledPair, timestep: int = 100) -> Sequence[Tensor]:
        with torch.no_grad():
            return MatchingNet(timestep)(in_context, pair, torch.Generator().manual_seed(0))

    black = -torch.ones_like(pairs.style)
    style, profile = features(SampledPair(pairs.style, black, pairs.profile))
    assert style.shape == profile.shape
    assert style.shape[-2:] == (16, 16)
    for changed in (
        SampledPair(pairs.style, pairs.style, pairs.profile),  # other pixels
        SampledPair(black, black, pairs.profile),  # other noisy latents
        SampledPair(pairs.style, black, black),
    ):
        assert not torch.allclose(features(changed)[0], style, atol=1e-5)
    with pytest.raises(NoDescriptors, match="system=ic_portrait"):
        MatchingNet()(model, SampledPair(black, black, black), torch.Generator())


def test_places_depend_on_the_sampled_pixels_and_not_on_chance(
    in_context: PortraitModel, pairs: ViewPairs
) -> None:
    def places(share: float, batch_size: int = 3) -> Tensor:
        return found_places(MatchingNet(), in_context, pairs, share, 0, batch_size)

    assert torch.equal(places(0.5), places(0.5))
    assert places(0.5, batch_size=2).shape == pairs.places.shape
    assert not torch.equal(places(0.5), places(0.1))


def test_features_are_resized_to_the_cells_before_they_are_matched(
    model: PortraitModel, pairs: ViewPairs
) -> None:
    class Coarse(RandomPlaces):
        def __call__(self, *given):
            own, other = super().__call__(*given)
            return own[..., :8, :8], other[..., :8, :8]

    found = found_places(Coarse(), model, pairs, 1.0, seed=0, batch_size=3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        torch.rand(64, 64, generator=generator)
    one, other = (torch.randn(3, 16, 32, 32, generator=generator)[..., :8, :8] for _ in range(2))
    finer = torch.nn.Upsample(size=(16, 16), mode="bilinear")
    torch.testing.assert_close(found, best_match(finer(one), finer(other)).places)
