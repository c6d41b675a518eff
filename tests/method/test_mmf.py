"""Multi-mode fusion against FPGA's eq. 1 written out slowly, and the model around it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel
from steering import TIMESTEPS, attend
from torch import Tensor, nn

from portraitlab.method.cond.keypoints import KeypointCond
from portraitlab.method.cond.none import NoCond
from portraitlab.method.fusion.resampler import ResamplerFusion
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.mmf import MultiModeFusion
from portraitlab.types import Batch, Condition, Injection, TextFeatures


def model_of(backbone: Any, way_in: Any, control: bool = True, **settings: Any) -> PortraitModel:
    """A model whose zero weights are opened, as training does."""
    torch.manual_seed(1)
    fusion = ResamplerFusion(10, 12, backbone.text_dim, layers=1, heads=2)
    net = MultiModeFusion(backbone, control, True, way_in, **settings)
    for parameter in net.starting_at_zero():
        nn.init.normal_(parameter, std=0.2)
    return PortraitModel(backbone, fusion, KeypointCond() if control else NoCond(), net)


class Eq1:
    """CA(Q, F_text) + CA(Q, F_id) in a stock ControlNet, query by query (FPGA, eq. 1)."""

    def __init__(self, identity: Tensor) -> None:
        self.identity = identity

    def one(self, attn: Any, queries: Tensor, read: Tensor) -> Tensor:
        keys, values = attn.to_k(read), attn.to_v(read)
        rows = [attend(query, keys, values, attn.heads) for query in attn.to_q(queries)]
        return attn.to_out[0](torch.stack(rows))

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any
    ) -> Tensor:
        queries, text = hidden_states[0], encoder_hidden_states[0]
        return (self.one(attn, queries, text) + self.one(attn, queries, self.identity))[None]


def slow(model: PortraitModel, batch: Batch, plain: Any, way_in: str, gate: float) -> Tensor:
    """Predict sample by sample with diffusers' ControlNet. plain: a backbone without a net."""
    controlnet = ControlNetModel.from_unet(plain.unet, conditioning_embedding_out_channels=(16, 32))
    state = model.net.controlnet.state_dict()
    controlnet.load_state_dict(state, strict=way_in == "pixels")
    tokens = model.fusion(batch.references)
    image = model.control_image(batch.shape_geometry, batch.target_geometry)
    empty = plain.encode(-torch.ones_like(image[:1]))
    predictions = []
    for sample in range(len(TIMESTEPS)):
        one = slice(sample, sample + 1)
        face = tokens.tokens[sample][tokens.mask[sample]]
        controlnet.set_attn_processor(
            {
                name: Eq1(face) if name.endswith("attn2.processor") else own
                for name, own in controlnet.attn_processors.items()
            }
        )
        noisy, level, drawn = batch.latents[one], TIMESTEPS[one], (image[one] + 1) / 2
        read = noisy
        if way_in == "latents":
            read, drawn = plain.encode(image[one]) - empty, torch.zeros_like(drawn)
        words = batch.text[one].words
        down, mid = controlnet(read, level, words, drawn, return_dict=False)
        share = (1 - plain.scheduler.alphas_cumprod[level]) ** gate
        injection = Injection(tuple(share * each for each in down), share * mid)
        predictions.append(plain.predict(noisy, level, batch.text[one], injection))
    return torch.cat(predictions)


@pytest.mark.parametrize(
    ("way_in", "settings"),
    [("pixels", {}), ("latents", {"reads_noise": False, "noise_gate": 1.0})],
)
def test_it_is_a_controlnet_with_eq_1_in_its_cross_attentions(
    tiny_backbone, tiny_batch, way_in: str, settings: dict[str, Any]
) -> None:
    model, batch = model_of(tiny_backbone(), way_in, **settings), tiny_batch(batch=2)
    assert not batch.references.mask.all()
    with torch.no_grad():
        found = model(batch, batch.latents, TIMESTEPS)
        expected = slow(model, batch, tiny_backbone(), way_in, settings.get("noise_gate", 0.0))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("way_in", ["pixels", "latents"])
def test_prompt_and_identity_both_reach_the_branch(tiny_backbone, tiny_batch, way_in: str) -> None:
    model, batch = model_of(tiny_backbone(), way_in), tiny_batch(batch=2)
    condition = model.condition(batch)
    another_prompt = replace(condition, text=TextFeatures(-condition.text.words))
    known = condition.tokens
    another_face = replace(condition, tokens=replace(known, tokens=-known.tokens))
    with torch.no_grad():
        mid = [
            model.net(batch.latents, TIMESTEPS, each).mid
            for each in (condition, another_prompt, another_face)
        ]
    assert not torch.allclose(mid[0], mid[1])
    assert not torch.allclose(mid[0], mid[2])


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


def test_a_wide_picture_without_a_drawing_has_an_empty_one_of_its_size(
    tiny_backbone, tiny_batch
) -> None:
    for way_in in ("pixels", "latents"):
        model, batch = model_of(tiny_backbone(), way_in), tiny_batch(batch=2)
        wide = torch.cat([batch.latents, batch.latents], dim=-1)
        condition = replace(model.condition(batch), drawing=None)
        with torch.no_grad():
            injection = model.net(wide, TIMESTEPS, condition)
        assert injection.down[0].shape[-2:] == wide.shape[-2:]
        assert torch.isfinite(injection.mid).all()


def test_it_is_refused_without_identity(tiny_backbone) -> None:
    message = r"net=mmf has no identity tokens to read with fusion=none; choose a fusion or net=con"
    with pytest.raises(ValueError, match=message):
        MultiModeFusion(tiny_backbone(), True, False)
