"""DDIM inversion is undone by DDIM's steps."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMInverseScheduler

from portraitlab.method.edit.inversion import invert
from portraitlab.method.sampler.ddim import DDIM


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("steps", [3, 10])
def test_a_step_of_the_same_prediction_leads_back(tiny_backbone, prediction_type, steps) -> None:
    """At noise levels that do not divide the training's, too."""
    backbone = tiny_backbone(prediction_type=prediction_type)
    scheduler = DDIM(steps).scheduler(backbone)
    latents = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    given = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    path = invert(scheduler, lambda noisy, timesteps: given, latents)
    assert len(path) == steps + 1
    for number, timestep in enumerate(scheduler.timesteps):
        back = scheduler.step(given, timestep, path[steps - number]).prev_sample
        torch.testing.assert_close(back, path[steps - number - 1], atol=1e-3, rtol=1e-3)


def test_for_noise_it_is_diffusers_inversion(tiny_backbone) -> None:
    backbone = tiny_backbone(prediction_type="epsilon")
    scheduler = DDIM(10).scheduler(backbone)
    stock = DDIMInverseScheduler.from_config(scheduler.config)
    stock.set_timesteps(10)
    assert stock.timesteps.tolist() == scheduler.timesteps.flip(0).tolist()

    def predict(noisy, timesteps):
        return 0.3 * noisy + 0.1

    latents = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    path = invert(scheduler, predict, latents)
    for timestep, expected in zip(stock.timesteps, path[1:], strict=True):
        latents = stock.step(predict(latents, timestep), timestep, latents).prev_sample
        torch.testing.assert_close(latents, expected, atol=1e-4, rtol=1e-4)


def test_plain_sampling_returns_the_latents_closer_with_more_repeats(model, tiny_batch) -> None:
    sampler = DDIM(10, guidance=1.0)
    with torch.no_grad():
        predict = sampler.predictor(model, model.condition(tiny_batch()))
        scheduler = sampler.scheduler(model.backbone)
        latents = torch.randn(3, 4, 16, 16, generator=torch.Generator().manual_seed(0))
        errors = []
        for repeats in (1, 2, 8):
            back = invert(scheduler, predict, latents, repeats)[-1]
            for timestep in scheduler.timesteps:
                prediction = predict(back, timestep.expand(3))
                back = scheduler.step(prediction, timestep, back).prev_sample
            errors.append(float((back - latents).square().mean().sqrt()))
    assert errors[0] > errors[1] > errors[2]
    assert errors[0] < 0.2
    assert errors[2] < 0.01


def test_the_worlds_levels_down_to_zero_signal_are_inverted() -> None:
    from portraitlab.world.models.text_to_image import make_scheduler

    class Levels:
        scheduler = make_scheduler()

    scheduler = DDIM(10).scheduler(Levels())
    latents = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    path = invert(scheduler, lambda noisy, timesteps: -0.5 * noisy, latents)
    assert torch.stack(path).isfinite().all()
