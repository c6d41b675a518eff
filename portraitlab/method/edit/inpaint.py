"""The baseline of plain inpainting: draw the face from noise inside its mask."""

from __future__ import annotations

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
    (Lugmayr et al., CVPR 2022, eq. 8), as in detailers for Stable Diffusion. seed: of the noise,
    which is the same for all faces. steps, guidance, guidance_drops: as Sampler's. The other
    settings are FaceRestoration's.
    """

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
        self, model: PortraitModel, crops: Tensor, condition: Condition, masks: Tensor
    ) -> Tensor:
        """Restore crops [F, 3, S, S] in [-1, 1] under soft masks [F, 1, S, S]."""
        backbone, sampler = model.backbone, self.sampler
        with backbone.computing():
            clean = backbone.encode(crops).float()
        noise = draw_noise(clean, [torch.Generator().manual_seed(self.seed) for _ in crops])
        inside = functional.adaptive_avg_pool2d(masks, (clean.shape[-2], clean.shape[-1]))
        scheduler = sampler.scheduler(backbone)
        predict = sampler.predictor(model, condition)
        following = [*scheduler.timesteps[1:], None]

        latents = noise
        for timestep, below in zip(scheduler.timesteps, following, strict=True):
            timesteps = timestep.expand(len(clean)).to(clean.device)
            prediction = predict(latents, timesteps)
            latents = scheduler.step(prediction, timestep, latents).prev_sample
            kept = clean
            if below is not None:
                kept = backbone.add_noise(clean, noise, below.expand(len(clean)).to(clean.device))
            latents = kept + inside * (latents - kept)
        with backbone.computing():
            return backbone.decode(latents)
