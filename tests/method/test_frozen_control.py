"""A control image through a ControlNet that is not trained."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from steering import TIMESTEPS, condition, noisy_latents, published
from torch import nn

from portraitlab.method.cond.keypoints import KeypointCond
from portraitlab.method.fusion.global_ import GlobalFusion
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.adapter import Adapter
from portraitlab.method.net.flashface import FlashFace
from portraitlab.method.net.frozen_control import FrozenControl
from portraitlab.method.net.hifi_net import HiFiNet
from portraitlab.method.net.instantid import InstantID
from portraitlab.method.net.photomaker import PhotoMaker
from portraitlab.method.net.text_concat import TextConcat
from portraitlab.types import Injection


def test_a_frozen_control_reads_the_drawing_and_the_prompt_as_hifi_net_without_fusion(
    tiny_backbone,
) -> None:
    backbone = tiny_backbone()
    given, noisy = condition(backbone), noisy_latents(backbone)
    route = FrozenControl("adapter", backbone, True, published(backbone))
    beside = HiFiNet(backbone, True, False, False, 1.0, published(backbone))
    found = route(noisy, TIMESTEPS, given)
    expected = beside(noisy, TIMESTEPS, replace(given, tokens=None))
    assert all(torch.equal(one, two) for one, two in zip(found.down, expected.down, strict=True))
    assert found.mid.abs().max() > 0
    assert not any(parameter.requires_grad for parameter in route.parameters())
    assert route(noisy, TIMESTEPS, replace(given, drawing=None)) == Injection()
    without = FrozenControl("adapter", backbone, False, None)
    assert without(noisy, TIMESTEPS, given) == Injection()


def test_frozen_weights_have_the_backbones_precision(tiny_backbone) -> None:
    backbone = tiny_backbone()
    given, noisy = condition(backbone), noisy_latents(backbone)
    whole = FrozenControl("adapter", backbone, True, published(backbone))
    backbone.precision = torch.bfloat16
    half = FrozenControl("adapter", backbone, True, published(backbone))
    assert half.reader.controlnet.conv_in.weight.dtype == torch.bfloat16
    assert half.reader.controlnet.time_embedding.linear_1.weight.dtype == torch.bfloat16
    with backbone.computing():
        one, two = (each(noisy, TIMESTEPS, given).mid for each in (whole, half))
    assert torch.equal(one, two)


@pytest.mark.parametrize("kind", [Adapter, PhotoMaker, FlashFace, TextConcat])
def test_a_control_image_without_a_controlnet_is_refused(tiny_backbone, kind) -> None:
    message = r"no path for a control image, and net.controlnet is null.*cond=none or net=hifi_net"
    with pytest.raises(ValueError, match=message):
        kind(tiny_backbone(), True, True)


@pytest.mark.parametrize("kind", [Adapter, PhotoMaker, FlashFace, TextConcat])
def test_frozen_weights_are_not_saved_with_a_run(tiny_backbone, tiny_batch, kind) -> None:
    def build(seed: int) -> PortraitModel:
        backbone = tiny_backbone()
        torch.manual_seed(seed)
        fusion = GlobalFusion(10, 12, backbone.text_dim)
        net = kind(backbone, True, True, controlnet=published(backbone))
        return PortraitModel(backbone, fusion, KeypointCond(), net)

    trained, fresh = build(0), build(1)
    for parameter in trained.trained_parameters():
        nn.init.normal_(parameter, std=0.1)
    state = trained.trained_state_dict()
    assert not any(name.startswith("net.frozen_control.") for name in state)
    parameters = {name for name, each in trained.net.named_parameters() if each.requires_grad}
    assert {f"net.{name}" for name in parameters} <= set(state)
    fresh.load_trained_state_dict(state)
    batch = tiny_batch(batch=2, latents=True)
    noisy = noisy_latents(trained.backbone)
    assert torch.equal(fresh(batch, noisy, TIMESTEPS), trained(batch, noisy, TIMESTEPS))


@pytest.mark.parametrize("kind", [Adapter, InstantID, PhotoMaker, FlashFace, TextConcat])
def test_attention_outputs_are_gated_like_residuals(tiny_backbone, kind) -> None:
    backbone = tiny_backbone()
    net, noisy = kind(backbone, False, True, noise_gate=2.0), noisy_latents(backbone)
    gate = net(noisy, TIMESTEPS, replace(condition(backbone), drawing=None)).gate
    share = 1 - backbone.scheduler.alphas_cumprod[TIMESTEPS]
    torch.testing.assert_close(gate, share**2)
    assert not any("noise_share" in name for name in net.state_dict())
    with pytest.raises(ValueError, match=r"net\.noise_gate=-1\.0: a number from 0 is needed"):
        kind(backbone, False, True, noise_gate=-1.0)
