"""PuLID's alignment losses against the formulas written slowly, and what their gradient reaches."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from denoised import denoising, opened, seeded, shared
from steering import attend
from tiny import make_backbone, make_batch, make_recogniser, make_regressor
from torch import Tensor

from portraitlab.method.cond.keypoints import KeypointCond
from portraitlab.method.cond.none import NoCond
from portraitlab.method.fusion.global_ import GlobalFusion
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.adapter import Adapter
from portraitlab.method.net.hifi_net import HiFiNet
from portraitlab.method.objective.alignment import AlignedLightningLoss
from portraitlab.method.objective.noise import NoiseLoss
from portraitlab.method.objective.weighted import Objective
from portraitlab.types import Condition

NAMES = ("identity", "semantic", "layout")
LEVELS = ((999, 666), (666, 333), (332, -1))
"""Noise levels of three steps of diffusers' DDIM, and those that each draws to."""


@pytest.fixture
def build(tiny_backbone) -> Callable[..., PortraitModel]:
    """A model after its first steps, by the name of its net."""

    def built(net: str = "adapter", **settings: Any) -> PortraitModel:
        backbone = tiny_backbone()
        fusion = GlobalFusion(10, 12, backbone.text_dim)
        if net == "adapter":
            adapter = Adapter(backbone, False, True, **settings)
            return opened(PortraitModel(backbone, fusion, NoCond(), adapter))
        hifi_net = HiFiNet(backbone, True, True, **settings)
        return opened(PortraitModel(backbone, fusion, KeypointCond(), hifi_net))

    return built


def aligned(**settings: Any) -> AlignedLightningLoss:
    settings = {"threshold": 0.0, "steps": 3, **settings}
    student = make_backbone(seed=5).unet
    return AlignedLightningLoss(make_recogniser(), make_regressor(), student, **settings)


class Noting:
    """An attention processor that notes the queries and keys of the text before its own work."""

    def __init__(self, own: Any, noted: list[tuple[Tensor, Tensor, int]]) -> None:
        self.own = own
        self.noted = noted

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: None = None,
        ip_hidden_states: Any = None,
    ) -> Tensor:
        text = encoder_hidden_states
        self.noted.append((attn.to_q(hidden_states), attn.to_k(text), attn.heads))
        given = {} if ip_hidden_states is None else {"ip_hidden_states": ip_hidden_states}
        return self.own(attn, hidden_states, text, **given)


def drawn_slowly(
    model: PortraitModel, student: Any, condition: Condition, grad_last: int
) -> tuple[Tensor, list[tuple[Tensor, Tensor, int]]]:
    """Latents of the student, with the queries, keys and heads of its last steps' attentions."""
    noted: list[tuple[Tensor, Tensor, int]] = []
    steered = model.with_unet(student)
    student.set_attn_processor(
        {
            name: Noting(own, noted) if "attn2" in name else own
            for name, own in model.backbone.unet.attn_processors.items()
        }
    )
    alphas = model.backbone.scheduler.alphas_cumprod
    latents = torch.randn(len(condition.text.words), 4, 16, 16, generator=seeded())
    for number, (level, following) in enumerate(LEVELS):
        last = number >= len(LEVELS) - grad_last
        if number == len(LEVELS) - grad_last:
            noted.clear()
        with nullcontext() if last else torch.no_grad():
            timesteps = torch.full((len(latents),), level)
            velocity = steered.predict(latents, timesteps, condition)
            alpha = alphas[level]
            clean = alpha.sqrt() * latents - (1 - alpha).sqrt() * velocity
            noise = alpha.sqrt() * velocity + (1 - alpha).sqrt() * latents
            alpha = alphas[following] if following >= 0 else torch.tensor(1.0)
            latents = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
    return latents, noted


def responses(queries: Tensor, keys: Tensor, heads: int) -> Tensor:
    """softmax(K Q^T / sqrt d) Q, word by word."""
    return torch.stack(
        [
            torch.stack([attend(word, list(query), list(query), heads) for word in key])
            for query, key in zip(queries, keys, strict=True)
        ]
    )


def slowly(term: AlignedLightningLoss, model: PortraitModel, batch: Any) -> dict[str, Tensor]:
    condition = model.condition(batch)
    latents, with_identity = drawn_slowly(model, term.student, condition, term.grad_last)
    bare = replace(condition, tokens=None)
    with torch.no_grad():
        _, without = drawn_slowly(model, term.student, bare, term.grad_last)
    semantic, layout = [], []
    for (query, key, heads), (other, _, _) in zip(with_identity, without, strict=True):
        difference = responses(query, key, heads) - responses(other, key, heads)
        semantic.append(difference.square().mean())
        layout.append((query - other).square().mean())
    assert len(layout) == term.grad_last * 4  # cross-attentions
    return {
        "identity": term.loss(model.backbone.decode(latents), batch.identity),
        "semantic": sum(semantic) / len(semantic),
        "layout": sum(layout) / len(layout),
    }


def gradients(loss: Tensor, model: PortraitModel) -> dict[str, Tensor | None]:
    model.zero_grad(set_to_none=True)
    loss.backward(retain_graph=True)
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("grad_last", [1, 2])
@pytest.mark.parametrize("net", ["adapter", "hifi_net"])
def test_the_losses_and_their_gradients_agree_with_the_formulas_written_slowly(
    build, net, grad_last
) -> None:
    model, batch = build(net), make_batch(batch=2)
    term = aligned(grad_last=grad_last)
    quick = term(denoising(model, batch, timesteps=(10, 990)))
    found = {name: gradients(quick[name], model) for name in NAMES}
    slow = slowly(term, model, batch)
    for name in NAMES:
        assert slow[name] > 1e-4
        torch.testing.assert_close(quick[name], slow[name])
        for parameter, expected in gradients(slow[name], model).items():
            gradient = found[name][parameter]
            if expected is None:
                assert gradient is None, parameter
            else:
                scale = expected.abs().max().item()
                torch.testing.assert_close(gradient, expected, atol=1e-4 * scale, rtol=1e-3)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", ["semantic", "layout"])
def test_the_gradient_reaches_fusion_and_net_and_nothing_frozen(build, name, checkpointing) -> None:
    model, term = build(), aligned(grad_last=2)
    if checkpointing:
        model.enable_gradient_checkpointing()
    found = gradients(term(denoising(model, make_batch()))[name], model)
    for parameter, each in model.named_parameters():
        gradient = found[parameter]
        if each.requires_grad:
            assert gradient is not None, parameter
            assert gradient.abs().sum() > 0, parameter
        else:
            assert gradient is None, parameter
    assert all(parameter.grad is None for parameter in term.parameters())


def test_identity_that_injects_nothing_changes_nothing(build) -> None:
    losses = aligned(grad_last=2)(denoising(build(scale=0.0), make_batch()))
    assert losses["identity"] > 0
    assert losses["semantic"] == losses["layout"] == 0
    losses = aligned(grad_last=2)(denoising(build(), make_batch()))
    assert losses["semantic"] > 0
    assert losses["layout"] > 0


@pytest.mark.parametrize("samples", [1, 3, None])
def test_the_losses_are_the_same_in_one_process_as_in_two(build, samples) -> None:
    term = aligned(samples=samples)
    whole = denoising(build(), make_batch(batch=4), timesteps=(10, 500, 700, 990))
    parts, alone = [term(part) for part in shared(whole, 2)], term(whole)
    for name in NAMES:
        torch.testing.assert_close(
            sum(part[name] for part in parts) / 2, alone[name], atol=1e-5, rtol=1e-4
        )


def test_the_sum_weighs_each_and_names_it(build) -> None:
    term = aligned(weight=2.0, semantic_weight=3.0, layout_weight=5.0, start_fraction=0.5)
    objective = Objective({"noise": NoiseLoss(), "lightning": term})
    model, batch = build(), make_batch()
    losses = objective(model, batch, seeded(), progress=0.6)
    assert list(losses) == ["loss", "noise", *(f"lightning_{name}" for name in NAMES)]
    noise, identity, semantic, layout = list(losses.values())[1:]
    assert layout > 0
    torch.testing.assert_close(losses["loss"], noise + 2 * identity + 3 * semantic + 5 * layout)
    assert list(objective(model, batch, seeded(), progress=0.4)) == ["loss", "noise"]


def test_nothing_is_left_on_the_student(build) -> None:
    term = aligned()
    sum(term(denoising(build(), make_batch())).values()).backward()
    assert not any(
        module._forward_hooks or module._forward_pre_hooks for module in term.student.modules()
    )
