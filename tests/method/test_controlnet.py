"""ControlNet as published."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from steering import TIMESTEPS, condition, noisy_latents
from torch import nn

from portraitlab.method.cond.keypoints import KeypointCond
from portraitlab.method.fusion.none import NoFusion
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.controlnet import ControlNet
from portraitlab.types import Injection


def test_it_is_diffusers_controlnet_that_reads_pixels_and_the_prompt(tiny_backbone) -> None:
    backbone = tiny_backbone()
    net = ControlNet(backbone, control=True, identity=True)
    given, noisy = condition(backbone), noisy_latents(backbone)
    image = torch.rand(2, 3, backbone.image_size, backbone.image_size) * 2 - 1
    shown = replace(given, drawing=image)
    with torch.no_grad():
        alone = backbone.predict(noisy, TIMESTEPS, given.text, Injection())
        untrained = backbone.predict(noisy, TIMESTEPS, given.text, net(noisy, TIMESTEPS, shown))
        assert torch.equal(untrained, alone)
        for parameter in net.starting_at_zero():
            assert not parameter.any()
            nn.init.normal_(parameter, std=0.2)
        down, mid = net.controlnet(
            noisy, TIMESTEPS, given.text.words, (image + 1) / 2, return_dict=False
        )
        injection = net(noisy, TIMESTEPS, shown)
    torch.testing.assert_close(injection.mid, mid)
    for one, two in zip(injection.down, down, strict=True):
        torch.testing.assert_close(one, two)
    assert net(noisy, TIMESTEPS, replace(given, drawing=None)) == Injection()


def test_the_model_draws_for_it_in_pixels(tiny_backbone, tiny_batch) -> None:
    backbone = tiny_backbone()
    net = ControlNet(backbone, control=True, identity=False)
    model = PortraitModel(backbone, NoFusion(10, 12, 16), KeypointCond(), net)
    batch = tiny_batch()
    drawing = model.condition(batch).drawing
    image = model.control_image(batch.shape_geometry, batch.target_geometry)
    assert torch.equal(drawing, image)
    assert image.shape[1:] == (3, backbone.image_size, backbone.image_size) == model.drawing_shape
    assert all(name.startswith("net.") for name in model.trained_state_dict())


def test_without_a_drawing_it_is_refused(tiny_backbone) -> None:
    with pytest.raises(ValueError, match=r"net=controlnet has nothing to read with cond=none"):
        ControlNet(tiny_backbone(), control=False, identity=True)
