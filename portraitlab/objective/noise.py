"""The diffusion loss (HiFi-Portrait, eq. 6)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from portraitlab.objective.base import Denoising, Term


class NoiseLoss(Term):
    """Mean squared error of the predicted noise, or of the velocity where the UNet predicts that.

    The mean square is what the papers' implementations minimise where eq. 6 writes a norm.
    """

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__(weight)

    def forward(self, denoising: Denoising) -> Tensor:
        """The loss over all samples."""
        target = denoising.backbone.training_target(
            denoising.batch.latents, denoising.noise, denoising.timesteps
        )
        return functional.mse_loss(denoising.prediction, target)
