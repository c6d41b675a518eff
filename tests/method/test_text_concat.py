"""Tokens appended to the prompt's, against FaceSnap's Sec. 3.3 written out slowly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sharing
import torch
from steering import TIMESTEPS, attend, condition, noisy_latents, published

from portraitlab.diffusion.backbone import Backbone
from portraitlab.method.cond.keypoints import KeypointCond
from portraitlab.method.fusion.concat import ConcatFusion
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.attention import AppendedAttention
from portraitlab.method.net.frozen_control import FrozenControl
from portraitlab.method.net.text_concat import TextConcat
from portraitlab.training.checkpoints import latest
from portraitlab.types import Condition, IdentityTokens, Injection, TextFeatures


def appended_to(backbone: Backbone, control: bool, identity: bool) -> TextConcat:
    """Build the net beside a frozen ControlNet."""
    return TextConcat(backbone, control, identity, controlnet=published(backbone))


def test_the_unet_reads_the_prompt_and_then_the_tokens_that_are_not_masked(tiny_backbone) -> None:
    backbone, plain = tiny_backbone(), tiny_backbone()
    net = TextConcat(backbone, False, True)
    given, noisy = condition(backbone), noisy_latents(backbone)
    assert not given.tokens.mask.all()
    with torch.no_grad():
        injection = net(noisy, TIMESTEPS, given)
        found = backbone.predict(noisy, TIMESTEPS, given.text, injection)
        for sample in range(2):
            one = slice(sample, sample + 1)
            face = given.tokens.tokens[one][:, given.tokens.mask[sample]]
            text = TextFeatures(torch.cat([given.text.words[one], face], dim=1))
            slow = plain.predict(noisy[one], TIMESTEPS[one], text, Injection())
            torch.testing.assert_close(found[one], slow, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("gate", [0.0, 1.0])
def test_a_masked_token_has_no_influence_whatever_it_is(tiny_backbone, gate: float) -> None:
    backbone = tiny_backbone()
    net = TextConcat(backbone, False, True, noise_gate=gate)
    given, noisy = condition(backbone), noisy_latents(backbone)
    tokens, mask = given.tokens.tokens, given.tokens.mask

    def predict(tokens: torch.Tensor) -> torch.Tensor:
        injection = net(noisy, TIMESTEPS, replace(given, tokens=IdentityTokens(tokens, mask)))
        with torch.no_grad():
            return backbone.predict(noisy, TIMESTEPS, given.text, injection)

    before = predict(tokens)
    assert torch.equal(predict(tokens.masked_fill(~mask[..., None], 1e3)), before)
    assert not torch.allclose(predict(tokens.masked_fill(mask[..., None], 1e3)), before)


def test_the_gate_weighs_the_change_of_each_attention(tiny_backbone) -> None:
    backbone = tiny_backbone()
    TextConcat(backbone, False, True, noise_gate=1.0)
    name = next(name for name in backbone.unet.attn_processors if "attn2.processor" in name)
    attention = backbone.unet.get_submodule(name.removesuffix(".processor"))
    assert isinstance(attention.processor, AppendedAttention)
    torch.manual_seed(3)
    features, given = torch.randn(2, 4, attention.query_dim), condition(backbone)
    gate = torch.tensor([0.3, 1.0])
    injection = Injection(attention=given.tokens, gate=gate)
    with torch.no_grad():
        fast = attention(features, given.text.words, ip_hidden_states=injection)
        for sample in range(2):
            text = given.text.words[sample]
            both = torch.cat([text, given.tokens.tokens[sample][given.tokens.mask[sample]]])
            for place in range(4):
                query = attention.to_q(features[sample, place])
                before, after = (
                    attention.to_out[0](
                        attend(query, attention.to_k(r), attention.to_v(r), attention.heads)
                    )
                    for r in (text, both)
                )
                slow = before.lerp(after, gate[sample])
                torch.testing.assert_close(fast[sample, place], slow, atol=1e-5, rtol=1e-4)


def test_without_tokens_the_backbone_is_unchanged_to_the_bit(tiny_backbone) -> None:
    backbone, plain = tiny_backbone(), tiny_backbone()
    net = appended_to(backbone, True, True)
    given, noisy = condition(backbone), noisy_latents(backbone)
    with torch.no_grad():
        dropped = net(noisy, TIMESTEPS, Condition(given.text, None, None))
        alone = backbone.predict(noisy, TIMESTEPS, given.text, dropped)
        assert torch.equal(alone, plain.predict(noisy, TIMESTEPS, given.text, Injection()))


def test_a_frozen_controlnet_reads_the_control_image_and_the_prompt(tiny_backbone) -> None:
    backbone = tiny_backbone()
    net = appended_to(backbone, True, True)
    route = FrozenControl("text_concat", backbone, True, published(backbone))
    given, noisy = condition(backbone), noisy_latents(backbone)
    injection, drawn = net(noisy, TIMESTEPS, given), route(noisy, TIMESTEPS, given)
    assert torch.equal(injection.mid, drawn.mid)
    assert injection.mid.abs().max() > 0
    assert injection.attention is given.tokens


@pytest.mark.parametrize("control", [True, False])
def test_the_fusion_alone_is_trained(tiny_backbone, tiny_batch, control: bool) -> None:
    backbone = tiny_backbone()
    torch.manual_seed(1)
    fusion = ConcatFusion(10, 12, backbone.text_dim)
    net = appended_to(backbone, control, True)
    model, batch = PortraitModel(backbone, fusion, KeypointCond(), net), tiny_batch(batch=2)
    trained = {name for name, each in model.named_parameters() if each.requires_grad}
    assert trained == {f"fusion.{name}" for name, _ in fusion.named_parameters()}
    assert model.trained_state_dict().keys() == trained
    model(batch, batch.latents, TIMESTEPS).square().sum().backward()
    for name, each in model.named_parameters():
        assert (each.grad is not None and bool(each.grad.any())) == (name in trained), name


def test_it_is_averaged_saved_and_resumed_without_weights_of_the_net(tmp_path: Path) -> None:
    straight = sharing.train(tmp_path / "straight", net=appended_to)
    saved = torch.load(latest(tmp_path / "straight"), weights_only=True)
    assert {name.partition(".")[0] for name in saved["state_dict"]} == {"fusion"}
    averages = saved["callbacks"]["Averaging"]["shadow_params"]
    assert len(averages) == len(straight.model.trained_parameters())
    (half,) = (tmp_path / "straight").glob("step-000002-*.ckpt")
    resumed = sharing.train(tmp_path / "resumed", resume=half, net=appended_to)
    torch.testing.assert_close(resumed.state_dict(), straight.state_dict(), rtol=0, atol=0)


def test_it_is_refused_without_identity(tiny_backbone: Any) -> None:
    message = r"net=text_concat has no identity tokens to read with fusion=none; choose"
    with pytest.raises(ValueError, match=message):
        TextConcat(tiny_backbone(), False, False)
