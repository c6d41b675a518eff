"""benchmarks/step_cache.py: deep features are those of the call that computed them."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from placed import ROOT
from steering import TIMESTEPS, condition, noisy_latents
from torch import Tensor

from portraitlab.method.net.rep_controlnet import RepControlNet


@pytest.fixture
def step_cache(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import step_cache  # type: ignore[import-not-found]

    return step_cache


@torch.no_grad()
def test_every_call_is_whole_or_has_the_features_of_the_last_whole_one(
    step_cache: ModuleType, tiny_backbone: Callable[..., Any]
) -> None:
    backbone = tiny_backbone()
    net = RepControlNet(backbone, True, False, way_in="latents").for_drawing(backbone)
    torch.nn.init.normal_(net.condition_adapter.last.weight, std=0.2)
    unet, given = net.unet, condition(backbone)
    features = net.read_drawing(given.drawing)

    def noisy(step: int) -> Tensor:
        return torch.cat([noisy_latents(backbone) + 0.5 * step, features], dim=1)

    def whole(step: int) -> Tensor:
        return unet(noisy(step), TIMESTEPS, given.text.words).sample

    cached = step_cache.StepCache(unet, every=2)
    drawn = [cached(noisy(step), TIMESTEPS, given.text.words).sample for step in range(4)]
    for step in (0, 2):
        assert torch.equal(drawn[step], whole(step))
    assert not torch.allclose(drawn[1], whole(1), atol=1e-3)
    # The deep features are those of step 0, all else is of step 1.
    inputs: list[Tensor] = []
    last = unet.up_blocks[-1]
    hook = last.register_forward_pre_hook(
        lambda block, args, kwargs: inputs.append(kwargs["hidden_states"]), with_kwargs=True
    )
    whole(0)
    hook.remove()
    hook = last.register_forward_pre_hook(
        lambda block, args, kwargs: (args, {**kwargs, "hidden_states": inputs[0]}),
        with_kwargs=True,
    )
    assert torch.equal(drawn[1], whole(1))
    hook.remove()


def test_residuals_of_a_controlnet_are_refused(
    step_cache: ModuleType, tiny_backbone: Callable[..., Any]
) -> None:
    backbone = tiny_backbone()
    given, noisy = condition(backbone), noisy_latents(backbone)
    with pytest.raises(ValueError, match="no residuals of a ControlNet"):
        step_cache.StepCache(backbone.unet, 2)(
            noisy, TIMESTEPS, given.text.words, down_block_additional_residuals=(noisy,)
        )
