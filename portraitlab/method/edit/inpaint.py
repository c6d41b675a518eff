"""The baseline of plain inpainting: draw the face from noise inside its mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from portraitlab.method.edit.restoration import FaceRestoration
from portraitlab.method.model import PortraitModel
from portraitlab.method.sampler.base import Drops, draw_noise
from portraitlab.method.sampler.ddim import DDIM
from portraitlab.support.checks import check_whole
from portraitlab.types import Condition


class Inpaint(FaceRestoration):
    """Sample the face by the same model and control image, without its own latents.

    Outside the mask the latents of each noise level are the crop's with noise of that level
    (Lugmayr et al., CVPR 2022, eq. 8), as in detailers for Stable Diffusion, and so are those that
    a net reads beside the crop's. seed: seed of the noise, which is the same for all faces. steps,
    guidance, guidance_drops: see Sampler. The other settings are FaceRestoration's.

    strengths: share of the noise levels from which the face is sampled, once for each; 1 is noise.
    """

    strengths: Sequence[float] = (1.0,)

    def __init__(
        self,
        steps: int = 30,
        guidance: float = 5.0,
        guidance_drops: Drops = "everything",
        seed: int = 0,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.sampler = DDIM(steps, guidance, 0.0, guidance_drops)
        self.seed = check_whole("edit.seed", seed, 0, 2**32 - 1)

    def restore(
        self,
        model: PortraitModel,
        crops: Tensor,
        condition: Condition,
        masks: Tensor,
        beside: Tensor | None = None,
    ) -> Tensor:
        """Restore crops [F, 3, S, S] in [-1, 1] under soft masks [F, 1, S, S]."""
        backbone = model.backbone
        with backbone.computing():
            clean = backbone.encode(crops).float()
        inside = functional.adaptive_avg_pool2d(masks, (clean.shape[-2], clean.shape[-1]))
        if beside is not None:
            inside = torch.cat([inside, torch.zeros_like(beside[:, :1])], dim=-1)
            clean = torch.cat([clean, beside], dim=-1)
        generators = [torch.Generator().manual_seed(self.seed) for _ in crops]
        latents = clean
        for strength in self.strengths:
            noise = draw_noise(clean, generators)
            latents = self._sampled(model, condition, latents, clean, inside, noise, strength)
        with backbone.computing():
            return backbone.decode(model.transform.picture(latents))

    def _sampled(
        self,
        model: PortraitModel,
        condition: Condition,
        latents: Tensor,
        clean: Tensor,
        inside: Tensor,
        noise: Tensor,
        strength: float,
    ) -> Tensor:
        """Add noise to latents [F, c, h, w] and sample them again inside a mask [F, 1, h, w].

        clean: latents outside of the mask.
        """
        backbone, timesteps = model.backbone, self.sampler.scheduler(model.backbone).timesteps
        start = len(timesteps) - max(round(strength * len(timesteps)), 1)

        def noised(latents: Tensor, timestep: Tensor) -> Tensor:
            level = timestep.expand(len(clean)).to(clean.device)
            return backbone.add_noise(latents, noise, level)

        def keep_outside(latents: Tensor, timestep: Tensor | None) -> Tensor:
            kept = clean if timestep is None else noised(clean, timestep)
            return kept + inside * (latents - kept)

        begun = noised(latents, timesteps[start]) if start else noise
        return self.sampler.trajectory(model, condition, begun, start=start, after=keep_outside)
