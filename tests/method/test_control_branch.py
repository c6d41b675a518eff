"""A branch beside the UNet: what it reads, by which way the control image enters, and refusals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel
from steering import TIMESTEPS, condition, noisy_latents, published
from torch import Tensor, nn

from portraitlab.diffusion.backbone import Backbone
from portraitlab.method.net.control_branch import ControlBranch, Reads
from portraitlab.types import Condition, IdentityTokens, Injection


def opened(net: ControlBranch) -> ControlBranch:
    """Replace zero weights by random ones, as training does."""
    torch.manual_seed(1)
    for parameter in net.starting_at_zero():
        nn.init.normal_(parameter, std=0.2)
    return net


def residuals(injection: Injection) -> list[Tensor]:
    assert injection.down is not None
    assert injection.mid is not None
    return [*injection.down, injection.mid]


def inputs(backbone: Backbone, pixels: bool) -> tuple[Tensor, Condition]:
    """Noisy latents and a condition, the second sample with a masked token."""
    given = condition(backbone)
    if pixels:
        size = backbone.image_size
        generator = torch.Generator().manual_seed(4)
        image = 2 * torch.rand(2, 3, size, size, generator=generator) - 1
        given = replace(given, drawing=image)
    return noisy_latents(backbone), given


def slow(
    net: ControlBranch, noisy: Tensor, given: Condition, reads: Reads, way_in: str
) -> list[Tensor]:
    """Compute residuals by diffusers' ControlNet, each sample without its masked tokens."""
    stock = ControlNetModel.from_config(net.stock().config)
    stock.load_state_dict(net.stock().state_dict())
    samples = []
    for sample in range(len(noisy)):
        one = slice(sample, sample + 1)
        words, drawing = given.text.words[one], given.drawing[one]
        tokens = given.tokens.tokens[one][:, given.tokens.mask[sample]]
        read = {"text": words, "tokens": tokens, "both": torch.cat([words, tokens], dim=1)}
        image = (drawing + 1) / 2 if way_in == "pixels" else drawing - net.empty_drawing
        down, mid = stock(noisy[one], TIMESTEPS[one], read[reads], image, return_dict=False)
        samples.append([*down, mid])
    return [torch.cat(parts) for parts in zip(*samples, strict=True)]


@pytest.mark.parametrize(
    ("way_in", "reads_noise"), [("pixels", True), ("latents", True), ("latents", False)]
)
@pytest.mark.parametrize("reads", ["text", "tokens", "both"])
def test_a_branch_is_diffusers_controlnet_on_what_it_reads(
    tiny_backbone, reads: Reads, way_in: Any, reads_noise: bool
) -> None:
    backbone = tiny_backbone()
    net = opened(ControlBranch(backbone, True, reads, way_in, reads_noise))
    noisy, given = inputs(backbone, pixels=way_in == "pixels")
    with torch.no_grad():
        found = residuals(net(noisy, TIMESTEPS, given))
        expected = slow(net, noisy, given, reads, way_in)
    assert found[-1].std() > 0.01
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("way_in", ["pixels", "latents"])
@pytest.mark.parametrize("reads", ["tokens", "both"])
def test_a_masked_token_has_no_influence_whatever_it_is(
    tiny_backbone, reads: Reads, way_in: Any
) -> None:
    backbone = tiny_backbone()
    net = opened(ControlBranch(backbone, True, reads, way_in))
    noisy, given = inputs(backbone, pixels=way_in == "pixels")
    tokens, mask = given.tokens.tokens, given.tokens.mask
    disturbed = IdentityTokens(tokens.masked_fill(~mask[..., None], 1e3), mask)
    seen = IdentityTokens(tokens.masked_fill(mask[..., None], 1e3), mask)
    with torch.no_grad():
        before = residuals(net(noisy, TIMESTEPS, given))
        same = residuals(net(noisy, TIMESTEPS, replace(given, tokens=disturbed)))
        other = residuals(net(noisy, TIMESTEPS, replace(given, tokens=seen)))
    assert all(torch.equal(one, two) for one, two in zip(before, same, strict=True))
    assert not torch.allclose(before[-1], other[-1])


def test_the_prompt_reaches_a_branch_only_where_it_reads_text(tiny_backbone) -> None:
    backbone = tiny_backbone()
    noisy, given = inputs(backbone, pixels=False)
    other = replace(given, text=given.text[[1, 0]])
    for reads, heard in (("text", True), ("tokens", False), ("both", True)):
        net = opened(ControlBranch(backbone, True, reads, "latents"))
        assert net.identity == (reads != "text")
        with torch.no_grad():
            one, two = (net(noisy, TIMESTEPS, each).mid for each in (given, other))
        assert torch.equal(one, two) != heard, reads


@pytest.mark.parametrize("way_in", ["pixels", "latents"])
def test_a_missing_drawing_is_an_empty_one(tiny_backbone, way_in: Any) -> None:
    backbone = tiny_backbone()
    net = opened(ControlBranch(backbone, True, "tokens", way_in))
    noisy, given = inputs(backbone, pixels=way_in == "pixels")
    black = -torch.ones_like(given.drawing)
    if way_in == "latents":
        black = net.empty_drawing.expand_as(given.drawing)
    with torch.no_grad():
        without = residuals(net(noisy, TIMESTEPS, replace(given, drawing=None)))
        empty = residuals(net(noisy, TIMESTEPS, replace(given, drawing=black)))
    torch.testing.assert_close(without, empty)
    assert net(noisy, TIMESTEPS, replace(given, drawing=None, tokens=None)) == Injection()


@pytest.mark.parametrize("way_in", ["pixels", "latents"])
@pytest.mark.parametrize("control", [True, False])
def test_a_branch_starts_without_effect_and_its_zeros_can_move(
    tiny_backbone, control: bool, way_in: Any
) -> None:
    backbone = tiny_backbone()
    net = ControlBranch(backbone, control, "tokens", way_in)
    noisy, given = inputs(backbone, pixels=way_in == "pixels")
    assert (net.control, net.pixels) == (control, control and way_in == "pixels")
    untrained = residuals(net(noisy, TIMESTEPS, given))
    assert not any(each.any() for each in untrained)
    sum(each.sum() for each in untrained).backward()
    outputs = [*net.controlnet.controlnet_down_blocks, net.controlnet.controlnet_mid_block]
    assert all(block.weight.grad.any() for block in outputs)
    zeros = net.starting_at_zero()
    assert not any(parameter.any() for parameter in zeros)
    assert len(zeros) == 2 * (len(outputs) + control)


def test_a_start_keeps_its_own_embedding_of_pixels(tiny_backbone) -> None:
    backbone = tiny_backbone()
    start = ControlNetModel.from_unet(backbone.unet, conditioning_embedding_out_channels=(4, 8))
    torch.manual_seed(3)
    nn.init.normal_(start.controlnet_cond_embedding.conv_out.weight)
    net = ControlBranch(backbone, True, "tokens", "pixels", start=start)
    for name, value in start.state_dict().items():
        assert torch.equal(net.controlnet.state_dict()[name], value)
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_settings_that_do_not_fit_are_refused(tiny_backbone) -> None:
    backbone = tiny_backbone()
    with pytest.raises(ValueError, match=r"net\.reads=faces: choose one of text, tokens"):
        ControlBranch(backbone, True, "faces", "pixels")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"net\.way_in=door: choose one of pixels, latents"):
        ControlBranch(backbone, True, "text", "door")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"choose net.reads_noise=true or net.way_in=latents"):
        ControlBranch(backbone, True, "text", "pixels", reads_noise=False)
    ControlBranch(backbone, False, "tokens", "pixels", reads_noise=False)
    start = published(backbone)
    start.controlnet_cond_embedding = nn.Identity()
    with pytest.raises(ValueError, match=r"no embedding of the control image's pixels.*latents"):
        ControlBranch(backbone, True, "text", "pixels", start=start)
