"""The training objective: noise a batch, predict, and sum the terms (HiFi-Portrait, eq. 8)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from portraitlab.method.model import PortraitModel
from portraitlab.method.objective.base import Denoising, Term
from portraitlab.support.checks import check_number
from portraitlab.support.ranks import ALONE, Split
from portraitlab.types import Batch


def draw_timesteps(count: int, levels: int, power: float, generator: torch.Generator) -> Tensor:
    """Sample timesteps [count] in [0, levels) as levels · u^power with u uniform, on the CPU."""
    uniform = torch.rand(count, generator=generator)
    return (levels * uniform**power).long().clamp(max=levels - 1)


class Objective(nn.Module):
    """A weighted sum of named terms over one noising of a batch.

    timestep_power: timesteps are sampled as T · u^power with u uniform; 1 is the papers' uniform
    distribution, less than 1 favours high noise, where layout and identity are determined.
    """

    def __init__(self, terms: Mapping[str, Term], timestep_power: float = 1.0) -> None:
        super().__init__()
        if not terms or "loss" in terms:
            raise ValueError(
                f"objective.terms are {list(terms)}; name one or more, none of them 'loss', "
                "which is the sum."
            )
        check_number("objective.timestep_power", timestep_power, above=0)
        self.terms = nn.ModuleDict(terms)
        self.timestep_power = timestep_power

    def forward(
        self,
        model: PortraitModel,
        batch: Batch,
        generator: torch.Generator,
        progress: float,
        step: int = 0,
        split: Split = ALONE,
    ) -> dict[str, Tensor]:
        """Compute "loss", the sum to minimise, and each term that acted, unweighted.

        Several losses of a term have its name before theirs, as in "lightning_layout".

        generator: CPU generator, so that the noise is the same on every device; in the same state
        in all processes that share a batch. progress: completed fraction of the training, in
        [0, 1]. step: number of optimiser steps done. split: this process's samples of the batch.
        """
        # Sample timesteps and noise of the whole batch, and take this process's.
        latents, backbone = batch.latents, model.backbone
        whole = len(latents) * split.processes
        all_timesteps = draw_timesteps(
            whole, backbone.timesteps, self.timestep_power, generator
        ).to(latents.device)
        all_noise = torch.randn(whole, *latents.shape[1:], generator=generator)
        timesteps, noise = split.own(all_timesteps), split.own(all_noise).to(latents)
        # Predict from the noised latents.
        noisy = backbone.add_noise(latents, noise, timesteps)
        condition = model.condition(batch)
        injection = model.net(noisy, timesteps, condition)
        prediction = backbone.predict(noisy, timesteps, condition.text, injection)
        denoising = Denoising(
            model, batch, condition, all_timesteps, noise, noisy, prediction, progress, step,
            generator, split, injection.attended,
        )  # fmt: skip
        # Sum the terms that act in this step.
        total, losses = prediction.new_zeros(()), {}
        for name, term in self.terms.items():
            assert isinstance(term, Term)
            computed = term(denoising)
            if isinstance(computed, dict):
                for part, loss in computed.items():
                    total = total + term.part_weights[part] * loss
                    losses[f"{name}_{part}"] = loss
            elif computed is not None:
                total = total + term.weight * computed
                losses[name] = computed
        return {"loss": total, **losses}
