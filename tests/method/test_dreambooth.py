"""A copy of the model is trained on one person's photos, and the model itself is unchanged."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny import make_backbone, make_batch
from torch import Tensor, nn

from portraitlab.method.cond.keypoints import KeypointCond
from portraitlab.method.cond.none import NoCond
from portraitlab.method.cond.style import StyleCond
from portraitlab.method.customise.custom_diffusion import CustomDiffusion
from portraitlab.method.customise.dreambooth import DreamBooth
from portraitlab.method.fusion.none import NoFusion
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.controlnet import ControlNet
from portraitlab.method.net.in_context import InContext
from portraitlab.method.net.none import NoNet
from portraitlab.method.transform.side_by_side import SideBySide
from portraitlab.types import Batch


class Prompt(nn.Module):
    """An image prompt of two words: the mean colours of the image."""

    words = 2

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3)).repeat(1, 6)[:, None, :16].expand(-1, 2, -1)


def bare(backbone: Any) -> PortraitModel:
    fusion = NoFusion(10, 12, backbone.text_dim)
    return PortraitModel(backbone, fusion, NoCond(), NoNet(backbone, False, False)).eval()


def pair(backbone: Any) -> PortraitModel:
    torch.manual_seed(1)
    net = InContext(backbone, True, False, Prompt())
    fusion = NoFusion(10, 12, backbone.text_dim)
    return PortraitModel(backbone, fusion, StyleCond(), net, SideBySide()).eval()


@pytest.fixture
def sample() -> Batch:
    return make_batch(batch=1, refs=3, latents=True, pictures=True)


def error(model: PortraitModel, photo: Batch) -> float:
    """Mean error of the prediction at all noise levels of a hundred."""
    noise = torch.randn(10, *photo.latents.shape[1:], generator=torch.Generator().manual_seed(3))
    timesteps, backbone = torch.arange(0, 1000, 100), model.backbone
    many = Batch.cat([photo] * 10)
    with torch.no_grad():
        found = model(many, backbone.add_noise(many.latents, noise, timesteps), timesteps)
    wanted = backbone.training_target(many.latents, noise, timesteps)
    return float((found - wanted).square().mean())


def test_the_trained_copy_agrees_with_steps_written_out(sample) -> None:
    backbone = make_backbone()
    own = DreamBooth(steps=4, learning_rate=1e-2, seed=7)(bare(backbone), sample)
    # One photo after the other, each at a random noise level.
    unet = deepcopy(backbone.unet).requires_grad_(True)
    optimiser = torch.optim.Adam(unet.parameters(), 1e-2)
    generator = torch.Generator().manual_seed(7)
    words = backbone.encode_text(["a photo of a person"]).words
    for place in (0, 1, 2, 0):
        latents = sample.references.latents[:, place]
        noise = torch.randn(latents.shape, generator=generator)
        timestep = torch.randint(1000, (1,), generator=generator)
        noisy = backbone.scheduler.add_noise(latents, noise, timestep)
        wanted = backbone.training_target(latents, noise, timestep)
        loss = (unet(noisy, timestep, words).sample - wanted).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    for name, weight in own.backbone.unet.named_parameters():
        torch.testing.assert_close(weight, unet.get_parameter(name), atol=1e-4, rtol=1e-3)
        assert not weight.requires_grad


@pytest.mark.parametrize("build", [bare, pair])
def test_photos_are_learnt_inside_inference_mode_and_the_model_is_unchanged(build, sample) -> None:
    model = build(make_backbone())
    before = deepcopy(model.state_dict())
    photo = replace(sample, latents=sample.references.latents[:, 0])
    photo = replace(photo, text=model.backbone.encode_text(["a photo of a person"]))
    if build is pair:
        pictures = replace(sample.pictures, style=sample.pictures.profile)
        photo = replace(sample, latents=pictures.latents, pictures=pictures)
        photo = model.transform.lay_out(model.with_drawing(photo))
    with torch.inference_mode():
        own = DreamBooth(steps=150, learning_rate=3e-3)(model, sample)
    assert error(own, photo) < 0.9 * error(model, photo)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert own.net is model.net


def test_masked_references_are_not_learnt(sample) -> None:
    model, customise = bare(make_backbone()), DreamBooth(steps=3, learning_rate=1e-2)
    mask = torch.tensor([[True, False, False]])
    one = replace(sample, references=replace(sample.references, mask=mask))
    latents = sample.references.latents.clone()
    latents[:, 1:] = 0
    other = replace(one, references=replace(one.references, latents=latents))
    found, same = (customise(model, given).backbone.unet.state_dict() for given in (one, other))
    assert all(torch.equal(value, same[name]) for name, value in found.items())


def test_an_outer_autocast_does_not_keep_old_weights(sample) -> None:
    customise, model = DreamBooth(steps=6, learning_rate=1e-2), bare(make_backbone())
    with torch.autocast("cpu", torch.bfloat16):
        found = customise(model, sample).backbone.unet.state_dict()
    # The same steps, each of which casts the weights of the moment.
    torch.set_autocast_cache_enabled(False)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            slow = customise(model, sample).backbone.unet.state_dict()
    finally:
        torch.set_autocast_cache_enabled(True)
    assert all(torch.equal(value, slow[name]) for name, value in found.items())


def test_custom_diffusion_trains_keys_and_values_of_the_text_alone(sample) -> None:
    backbone = make_backbone()
    customise = CustomDiffusion(steps=2, learning_rate=1e-2)
    own = customise(bare(backbone), sample).backbone.unet
    for name, weight in own.named_parameters():
        changed = not torch.equal(weight, backbone.unet.get_parameter(name))
        assert changed == ("attn2.to_k" in name or "attn2.to_v" in name), name


def test_what_cannot_be_trained_is_refused(sample) -> None:
    backbone = make_backbone()
    customise = DreamBooth(steps=1, learning_rate=1e-3)
    with pytest.raises(ValueError, match="customise trains for one person"):
        customise(bare(backbone), replace(sample, regions=torch.ones(1, 1, 16, 16).bool()))
    controlled = PortraitModel(
        backbone, NoFusion(10, 12, 16), KeypointCond(), ControlNet(backbone, True, False)
    )
    with pytest.raises(ValueError, match="whose control image is not known; choose cond=none"):
        customise(controlled, sample)
    with pytest.raises(ValueError, match=r"customise.learning_rate=0.0"):
        DreamBooth(steps=1, learning_rate=0.0)
