"""Nets in the form of diffusers' ControlNetModel: its stock loader, and the same residuals."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel
from torch import nn

from portraitlab.diffusion.backbone import Backbone
from portraitlab.method.net.base import Net
from portraitlab.method.net.controlnet import ControlNet
from portraitlab.method.net.ffrnet import FFRNet
from portraitlab.method.net.hifi_net import HiFiNet
from portraitlab.method.net.instantid import InstantID
from portraitlab.method.net.mmf import MultiModeFusion
from portraitlab.method.net.stock import check_fit
from portraitlab.types import Condition, IdentityTokens, Regions, TextFeatures

MakeBackbone = Callable[..., Backbone]
LEVEL = 700


def trained(net: Net) -> Net:
    """A net whose zero convolutions are no longer zero."""
    torch.manual_seed(1)
    for parameter in net.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.1)
    return net


def random_condition(pixels: bool = False) -> Condition:
    """Two samples with two references of three tokens each, all there."""
    torch.manual_seed(2)
    tokens = IdentityTokens(torch.randn(2, 6, 16), torch.ones(2, 6, dtype=torch.bool))
    drawing = torch.rand(2, 3, 32, 32) * 2 - 1 if pixels else torch.randn(2, 4, 16, 16)
    return Condition(TextFeatures(torch.randn(2, 8, 16)), tokens, drawing)


def stock_of(net: Net, folder: Path) -> ControlNetModel:
    """The net as diffusers' stock loader reads it, with all keys and no others."""
    net.stock().save_pretrained(folder)
    stock, info = ControlNetModel.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    return stock


def assert_same_residuals(net: Net, stock: ControlNetModel, **given: object) -> None:
    torch.manual_seed(3)
    noisy = torch.randn(2, 4, 16, 16)
    with torch.no_grad():
        condition = random_condition(pixels=net.pixels)
        if not net.control:
            condition = replace(condition, drawing=None)
        ours = net(noisy, torch.tensor([LEVEL, LEVEL]), condition)
        down, mid = stock(noisy, LEVEL, **given, return_dict=False)
    assert ours.down is not None
    assert ours.mid is not None
    assert ours.mid.std() > 0.01  # else anything would be the same
    torch.testing.assert_close([*ours.down, ours.mid], [*down, mid], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gate", [0.0, 1.0])
@pytest.mark.parametrize("reads_noise", [True, False])
@pytest.mark.parametrize("control", [True, False])
def test_hifi_net_is_the_same_as_a_stock_controlnet(
    tiny_backbone: MakeBackbone, tmp_path: Path, control: bool, reads_noise: bool, gate: float
) -> None:
    net = trained(HiFiNet(tiny_backbone(), control, True, reads_noise, noise_gate=gate))
    condition = random_condition()
    assert condition.tokens is not None
    assert condition.drawing is not None
    drawn = condition.drawing - net.empty_drawing if control else condition.drawing
    assert_same_residuals(
        net,
        stock_of(net, tmp_path),
        encoder_hidden_states=condition.tokens.tokens,
        controlnet_cond=drawn,
        conditioning_scale=float(net.gate(torch.tensor([LEVEL]))),
    )


def test_controlnet_is_a_stock_controlnet(tiny_backbone: MakeBackbone, tmp_path: Path) -> None:
    net = trained(ControlNet(tiny_backbone(), control=True, identity=False))
    condition = random_condition(pixels=True)
    assert condition.drawing is not None
    assert_same_residuals(
        net,
        stock_of(net, tmp_path),
        encoder_hidden_states=condition.text.words,
        controlnet_cond=condition.drawing / 2 + 0.5,
    )


@pytest.mark.parametrize(
    ("way_in", "settings"),
    [("pixels", {}), ("latents", {}), ("latents", {"reads_noise": False, "noise_gate": 1.0})],
)
def test_ffrnet_is_the_same_as_a_stock_controlnet(
    tiny_backbone: MakeBackbone, tmp_path: Path, way_in: Any, settings: dict[str, Any]
) -> None:
    net = FFRNet(tiny_backbone(), True, True, way_in, **settings)
    condition = random_condition(pixels=trained(net).pixels)
    assert condition.tokens is not None
    assert condition.drawing is not None
    drawn = condition.drawing
    assert_same_residuals(
        net,
        stock_of(net, tmp_path),
        encoder_hidden_states=condition.tokens.tokens,
        controlnet_cond=drawn / 2 + 0.5 if net.pixels else drawn - net.empty_drawing,
        conditioning_scale=float(net.gate(torch.tensor([LEVEL]))),
    )


@pytest.mark.parametrize("way_in", ["pixels", "latents"])
def test_multi_mode_fusion_is_the_same_as_a_stock_controlnet_where_no_token_acts(
    tiny_backbone: MakeBackbone, tmp_path: Path, way_in: Any
) -> None:
    """A stock ControlNet has one attention, so that it has no place for the identity tokens."""
    net = trained(MultiModeFusion(tiny_backbone(), True, True, way_in))
    condition = random_condition(pixels=net.pixels)
    assert condition.tokens is not None
    assert condition.drawing is not None
    stock, noisy, level = stock_of(net, tmp_path), torch.randn(2, 4, 16, 16), torch.tensor([LEVEL])
    drawn = condition.drawing
    nowhere = Regions(torch.zeros(2, 1, 16, 16, dtype=torch.bool), torch.zeros(2, 6).long())
    for tokens, same in (
        (None, True),
        (replace(condition.tokens, regions=nowhere), True),
        (condition.tokens, False),
    ):
        with torch.no_grad():
            ours = net(noisy, level.expand(2), replace(condition, tokens=tokens))
            _, mid = stock(
                noisy,
                LEVEL,
                encoder_hidden_states=condition.text.words,
                controlnet_cond=drawn / 2 + 0.5 if net.pixels else drawn - net.empty_drawing,
                return_dict=False,
            )
        assert torch.allclose(ours.mid, mid, rtol=1e-4, atol=1e-5) is same


def test_a_net_started_from_a_default_controlnet_is_exported_as_one(
    tiny_backbone: MakeBackbone, tmp_path: Path
) -> None:
    backbone = tiny_backbone()
    start = ControlNetModel.from_unet(backbone.unet, conditioning_embedding_out_channels=(4, 8))
    start.save_pretrained(tmp_path / "start")
    config = json.loads((tmp_path / "start" / "config.json").read_text())
    del config["conditioning_channels"]  # of which diffusers then notes that it is a default
    net = HiFiNet(backbone, True, True, start=ControlNetModel.from_config(config))
    assert stock_of(net, tmp_path / "stock").config.conditioning_channels == 4


@pytest.mark.parametrize(
    "build",
    [
        lambda backbone: HiFiNet(backbone, True, True),
        lambda backbone: HiFiNet(backbone, True, True, reads_noise=False),
        lambda backbone: HiFiNet(backbone, False, True),
        lambda backbone: ControlNet(backbone, True, True),
        lambda backbone: InstantID(backbone, True, True),
        lambda backbone: FFRNet(backbone, True, True, "pixels"),
        lambda backbone: FFRNet(backbone, True, True, "latents", reads_noise=False),
        lambda backbone: FFRNet(backbone, False, True, "pixels"),
        lambda backbone: MultiModeFusion(backbone, True, True, "pixels"),
        lambda backbone: MultiModeFusion(backbone, True, True, "latents", reads_noise=False),
    ],
)
def test_the_way_back_is_exact(
    tiny_backbone: MakeBackbone, build: Callable[[Backbone], Net], tmp_path: Path
) -> None:
    net, other = trained(build(tiny_backbone())), build(tiny_backbone(seed=1))
    other.load_stock(stock_of(net, tmp_path))
    part = net.stock_part
    assert part is not None
    own, loaded = (each.get_submodule(part).state_dict() for each in (net, other))
    assert own.keys() == loaded.keys()
    assert all(torch.equal(own[name], loaded[name]) for name in own)


def test_a_controlnet_of_another_form_is_refused(tiny_backbone: MakeBackbone) -> None:
    backbone = tiny_backbone()
    pixels = ControlNetModel.from_unet(backbone.unet, conditioning_embedding_out_channels=(4, 8))
    with pytest.raises(ValueError, match=r"of 3 channels through 8, .* 4 through 8"):
        HiFiNet(backbone, True, True).load_stock(pixels)
    with pytest.raises(ValueError, match=r"does not match the net \(7 differences"):
        ControlNet(backbone, True, True).load_stock(pixels)


def test_a_controlnet_of_another_base_is_refused(tiny_backbone: MakeBackbone) -> None:
    config = {"block_out_channels": (8, 8), "cross_attention_dim": 16, "norm_num_groups": 4}
    blocks = ("DownBlock2D", "CrossAttnDownBlock2D")
    other = ControlNetModel(**config, down_block_types=blocks, layers_per_block=1)
    message = r"FOLDER has block_out_channels=\(8, 8\), and the backbone's UNet \(8, 16\).*or none"
    with pytest.raises(ValueError, match=message):
        check_fit(other, tiny_backbone(), "FOLDER", "none")
