"""FFRNet against FaceSnap's Sec. 2.1 written out slowly, and the model around it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel
from steering import TIMESTEPS
from torch import Tensor, nn

from portraitlab.method.cond.keypoints import KeypointCond
from portraitlab.method.cond.none import NoCond
from portraitlab.method.fusion.concat import ConcatFusion
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.ffrnet import FFRNet
from portraitlab.types import Batch, Condition, Injection, TextFeatures


def model_of(backbone: Any, way_in: Any, control: bool = True, **settings: Any) -> PortraitModel:
    """A model with FFRNet whose zero weights are opened, as training does."""
    torch.manual_seed(1)
    fusion = ConcatFusion(10, 12, backbone.text_dim)
    net = FFRNet(backbone, control, True, way_in, **settings)
    for parameter in net.starting_at_zero():
        nn.init.normal_(parameter, std=0.2)
    return PortraitModel(backbone, fusion, KeypointCond() if control else NoCond(), net)


def slow(model: PortraitModel, batch: Batch, plain: Any, way_in: str, gate: float) -> Tensor:
    """Predict sample by sample: a ControlNet conditioned on the fused tokens, the UNet on the text.

    plain: a backbone that no net was built on. With latents the landmarks' latents minus the empty
    drawing's are in place of the noisy ones, and the embedding of pixels adds nothing.
    """
    controlnet = ControlNetModel.from_unet(plain.unet, conditioning_embedding_out_channels=(16, 32))
    state = model.net.controlnet.state_dict()
    controlnet.load_state_dict(state, strict=way_in == "pixels")
    tokens = model.fusion(batch.references)
    image = model.control_image(batch.shape_geometry, batch.target_geometry)
    empty = plain.encode(-torch.ones_like(image[:1]))
    predictions = []
    for sample in range(len(TIMESTEPS)):
        one = slice(sample, sample + 1)
        noisy, level, landmarks = batch.latents[one], TIMESTEPS[one], (image[one] + 1) / 2
        read = noisy
        if way_in == "latents":
            read, landmarks = plain.encode(image[one]) - empty, torch.zeros_like(landmarks)
        face = tokens.tokens[one][:, tokens.mask[sample]]
        down, mid = controlnet(read, level, face, landmarks, return_dict=False)
        share = (1 - plain.scheduler.alphas_cumprod[level]) ** gate
        injection = Injection(tuple(share * each for each in down), share * mid)
        predictions.append(plain.predict(noisy, level, batch.text[one], injection))
    return torch.cat(predictions)


@pytest.mark.parametrize(
    ("way_in", "settings"),
    [("pixels", {}), ("latents", {"reads_noise": False, "noise_gate": 1.0})],
)
def test_ffrnet_is_a_controlnet_conditioned_on_the_fused_tokens(
    tiny_backbone, tiny_batch, way_in: str, settings: dict[str, Any]
) -> None:
    model, batch = model_of(tiny_backbone(), way_in, **settings), tiny_batch(batch=2)
    assert not batch.references.mask.all()
    with torch.no_grad():
        found = model(batch, batch.latents, TIMESTEPS)
        expected = slow(model, batch, tiny_backbone(), way_in, settings.get("noise_gate", 0.0))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("way_in", ["pixels", "latents"])
def test_the_prompt_reaches_the_unet_alone(tiny_backbone, tiny_batch, way_in: str) -> None:
    model, batch = model_of(tiny_backbone(), way_in), tiny_batch(batch=2)
    condition = model.condition(batch)
    other = replace(condition, text=TextFeatures(-condition.text.words))
    with torch.no_grad():
        one, two = (model.net(batch.latents, TIMESTEPS, each) for each in (condition, other))
        drawn = [model.predict(batch.latents, TIMESTEPS, each) for each in (condition, other)]
    assert torch.equal(one.mid, two.mid)
    assert not torch.allclose(*drawn)


@pytest.mark.parametrize("way_in", ["pixels", "latents"])
@pytest.mark.parametrize("control", [True, False])
def test_a_dropped_condition_leaves_the_backbone_alone(
    tiny_backbone, tiny_batch, control: bool, way_in: str
) -> None:
    model, batch = model_of(tiny_backbone(), way_in, control), tiny_batch(batch=2)
    with torch.no_grad():
        alone = tiny_backbone().predict(batch.latents, TIMESTEPS, batch.text, Injection())
        dropped = model.predict(batch.latents, TIMESTEPS, Condition(batch.text, None, None))
        found = model(batch, batch.latents, TIMESTEPS)
    assert torch.equal(dropped, alone)
    assert not torch.allclose(found, alone)


def test_it_is_refused_without_identity(tiny_backbone) -> None:
    message = r"net=ffrnet has no identity tokens to read with fusion=none; choose a fusion or"
    with pytest.raises(ValueError, match=message):
        FFRNet(tiny_backbone(), True, False)
