"""Descriptors that task=match compares: of diffusion models, tuned ones and the matching net."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from diffusers.models.embeddings import ImageProjection
from torch import Tensor
from torch.nn import functional

from portraitlab.diffusion.backbone import Backbone
from portraitlab.method.cond.none import NoCond
from portraitlab.method.cond.style import StyleCond
from portraitlab.method.fusion.none import NoFusion
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.in_context import InContext
from portraitlab.method.net.none import NoNet
from portraitlab.method.transform.side_by_side import SideBySide
from portraitlab.scoring.descriptors.clean_dift import CleanDift
from portraitlab.scoring.descriptors.dift import Dift
from portraitlab.scoring.descriptors.matching_net import MatchingNet
from portraitlab.scoring.matching import SampledPair, ViewPairs, found_places
from portraitlab.types import Injection
from portraitlab.world.models.text_to_image import CanvasImagePrompt
from portraitlab.world.pretrained import load_clip
from portraitlab.world.splits import IDENTITIES


@pytest.fixture(scope="module")
def pairs() -> ViewPairs:
    return ViewPairs.render(IDENTITIES["development"][:2], 30, size=64, cells=16)


@pytest.fixture
def model(tiny_backbone: Callable[..., Backbone]) -> PortraitModel:
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
        generator, timesteps = torch.Generator().manual_seed(3), torch.full((2,), 100)
        latents = backbone.encode(pairs.style)
        for _ in range(2):
            noise = torch.randn(latents.shape, generator=generator)
            noisy = backbone.add_noise(latents, noise, timesteps)
            backbone.predict(noisy, timesteps, backbone.encode_text([""]).expand(2), Injection())
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
    with pytest.raises(ValueError, match="system=ic_portrait"):
        MatchingNet()(model, SampledPair(black, black, black), torch.Generator())


def test_places_depend_on_the_sampled_pixels_and_not_on_chance(
    in_context: PortraitModel, pairs: ViewPairs
) -> None:
    def places(share: float, batch_size: int = 3) -> Tensor:
        return found_places(MatchingNet(), in_context, pairs, share, 0, batch_size)

    assert torch.equal(places(0.5), places(0.5))
    assert places(0.5, batch_size=2).shape == pairs.places.shape
    assert not torch.equal(places(0.5), places(0.1))


def test_features_of_clean_pictures_come_nearer_to_those_of_noisy_ones(
    model: PortraitModel, pairs: ViewPairs
) -> None:
    pair = SampledPair(pairs.style, pairs.style, pairs.profile)
    backbone = model.backbone
    before = {name: value.clone() for name, value in backbone.state_dict().items()}

    def features(descriptors: Dift | CleanDift, seed: int = 0) -> Tensor:
        with torch.no_grad():
            return descriptors(model, pair, torch.Generator().manual_seed(seed))[0]

    noisy = torch.stack([features(Dift(timestep, block=1)) for timestep in (200, 500, 800)])
    tuning = {"steps": 12, "batch_size": 2, "learning_rate": 2e-3}
    untuned, tuned = CleanDift(steps=1, batch_size=2, learning_rate=0.0), CleanDift(**tuning)

    def nearness(descriptors: CleanDift) -> float:
        return float(functional.cosine_similarity(features(descriptors), noisy, dim=2).mean())

    assert nearness(tuned) > nearness(untuned) + 0.02
    # Nothing is drawn, the tuning is repeatable and done once, and the backbone is as it was.
    assert torch.equal(features(tuned, seed=1), features(tuned, seed=2))
    once = tuned._tuned
    assert torch.equal(features(CleanDift(**tuning)), features(tuned))
    assert tuned._tuned is once
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
