"""DIIR against a slow reference that reads like Algorithm 1 of FPGA."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from portraitlab.method.edit.diir import DIIR
from portraitlab.types import Batch, Condition


def slow_fused(own: Tensor, cached: Tensor, mask: Tensor) -> Tensor:
    """AdaIN of what is inside the mask, and the cached features outside; all [F, C, h, w]."""
    size = own.shape[-1]
    mask = torch.nn.functional.interpolate(mask, size=(size, size), mode="area")
    fused = torch.empty_like(own)
    for face in range(len(own)):
        weight = mask[face, 0] / mask[face, 0].sum()
        for channel in range(own.shape[1]):
            x, y = own[face, channel], cached[face, channel]
            mean_x, mean_y = (weight * x).sum(), (weight * y).sum()
            sigma_x = ((weight * (x - mean_x) ** 2).sum() + 1e-5).sqrt()
            sigma_y = ((weight * (y - mean_y) ** 2).sum() + 1e-5).sqrt()
            moved = sigma_y * (x - mean_x) / sigma_x + mean_y
            fused[face, channel] = mask[face, 0] * moved + (1 - mask[face, 0]) * y
    return fused


def slow_diir(model, crops, condition, mask, steps, guidance):
    """Algorithm 1, with T steps between noise levels as angles, and hooks as processors."""
    backbone, unet = model.backbone, model.backbone.unet
    levels = [round(1000 * (index + 1) / steps) - 1 for index in range(steps)]  # t = 1 to T
    alphas = backbone.scheduler.alphas_cumprod
    angle = [torch.acos(alphas[level].sqrt()) for level in levels]
    below = [torch.acos(backbone.scheduler.final_alpha_cumprod.sqrt()), *angle[:-1]]
    attentions = [
        module for name, module in unet.named_modules()
        if name.startswith("up_blocks") and name.endswith("attn1")
    ]  # fmt: skip
    cached: list[list[Tensor]] = []

    def maps(features: Tensor) -> Tensor:
        side = int(features.shape[1] ** 0.5)
        return features.transpose(1, 2).reshape(len(features), -1, side, side)

    def predict(latents: Tensor, t: int, given: Condition) -> Tensor:
        return model.predict(latents, torch.full((len(latents),), levels[t]), given)

    # 1: encode the broken faces.  2: invert them, and cache the self-attentions' features.
    inverted = [backbone.encode(crops)]
    for t in range(steps):
        cached.append([])
        hooks = [
            module.register_forward_hook(lambda module, given, out: cached[-1].append(out))
            for module in attentions
        ]
        velocity = predict(inverted[-1], t, condition)
        for hook in hooks:
            hook.remove()
        turn = angle[t] - below[t]
        inverted.append((inverted[-1] + turn.sin() * velocity) / turn.cos())

    # 3 to 9: sample under the fused features (6 and 7), and fuse the latents (8).
    latents = inverted[steps]
    empty = Condition(backbone.encode_text([""] * len(crops)), None, None)
    for t in reversed(range(steps)):
        hooks = [
            module.register_forward_hook(
                lambda module, given, out, kept=kept: (
                    slow_fused(maps(out), maps(kept), mask).flatten(2).transpose(1, 2)
                )
            )
            for module, kept in zip(attentions, cached[t], strict=True)
        ]
        with_, without = predict(latents, t, condition), predict(latents, t, empty)
        for hook in hooks:
            hook.remove()
        velocity = without + guidance * (with_ - without)
        turn = angle[t] - below[t]
        latents = turn.cos() * latents - turn.sin() * velocity
        latents = slow_fused(latents, inverted[t], mask)
    return backbone.decode(latents)  # 10


@pytest.fixture
def given(model, tiny_batch) -> tuple[Tensor, Condition, Tensor]:
    """Crops, their condition and soft masks."""
    batch: Batch = tiny_batch()
    draw = torch.Generator().manual_seed(2)
    crops = torch.rand(3, 3, 32, 32, generator=draw) * 2 - 1
    mask = torch.zeros(3, 1, 32, 32)
    for face in range(3):
        mask[face, :, 6 + face : 24, 8 : 26 - face] = 0.5
        mask[face, :, 9 + face : 20, 11 : 22 - face] = 1.0
    with torch.no_grad():
        return crops, model.condition(batch), mask


@pytest.mark.parametrize(("steps", "guidance"), [(1, 1.0), (2, 2.5), (5, 2.0)])
def test_it_agrees_with_the_algorithm(model, of_faces, given, steps, guidance) -> None:
    edit = DIIR(**of_faces, steps=steps, guidance=guidance)
    with torch.no_grad():
        fast = edit.restore(model, *given)
        slow = slow_diir(model, *given, steps, guidance)
    torch.testing.assert_close(fast, slow, atol=2e-3, rtol=2e-3)  # features in half precision


def test_without_fusion_the_inverted_crop_returns(model, of_faces, given) -> None:
    crops, condition, mask = (each[:1] for each in given)
    errors = []
    for repeats in (1, 4):
        plain = DIIR(
            **of_faces, steps=30, guidance=1.0, features=None, latents=False, repeats=repeats
        )
        with torch.no_grad():
            back = plain.restore(model, crops, condition, mask)
            round_trip = model.backbone.decode(model.backbone.encode(crops))
        errors.append(float((back - round_trip).square().mean().sqrt()))
    assert errors[1] < 0.01 < errors[0]


@pytest.mark.parametrize(
    "change",
    [
        {"features": None}, {"features": "map"}, {"latents": False}, {"statistics": "outside"},
        {"product": "zeros"}, {"outside": "modulated"}, {"blocks": ("down", "mid", "up")},
        {"inverted_under": "prompt"}, {"repeats": 2}, {"guidance_drops": "prompt"}, {"steps": 4},
    ],
    ids=str,
)  # fmt: skip
def test_every_setting_has_an_effect(model, of_faces, given, change) -> None:
    settings = {"steps": 3, "guidance": 2.0}
    with torch.no_grad():
        usual = DIIR(**of_faces, **settings).restore(model, *given)
        changed = DIIR(**of_faces, **(settings | change)).restore(model, *given)
    assert changed.isfinite().all()
    assert not torch.allclose(usual, changed, atol=1e-4)


def test_the_unet_is_as_before(model, of_faces, given) -> None:
    unet = model.backbone.unet
    processors, levels = unet.attn_processors, model.backbone.scheduler.timesteps.clone()
    with torch.no_grad():
        DIIR(**of_faces, steps=2).restore(model, *given)
    assert unet.attn_processors == processors
    assert torch.equal(model.backbone.scheduler.timesteps, levels)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, r"steps=0: a whole number from 1"),
        ({"repeats": 0}, "edit.repeats=0: a whole number from 1"),
        ({"features": "some"}, "edit.features=some: choose one of output, map"),
        ({"blocks": ["up", "top"]}, "edit.blocks=top: choose one of down, mid, up"),
        ({"inverted_under": "all"}, "edit.inverted_under=all: choose one of same, prompt"),
        ({"below": 0}, "edit.below=0: a number above 0 is needed, or null"),
        ({"margin": 0.5}, "edit.margin=0.5: a number from 1 up to 4"),
        ({"soften": -1}, "edit.soften=-1: a number from 0 up to 4"),
        ({"shape": "some"}, "edit.shape=some: choose one of broken, reference"),
        ({"at_once": 0}, "edit.at_once=0: a whole number from 1"),
    ],
)
def test_settings_out_of_range_are_refused(of_faces, settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        DIIR(**(of_faces | settings))
