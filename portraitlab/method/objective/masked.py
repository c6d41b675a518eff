"""The diffusion loss inside the face mask (FaceSnap, eq. 3)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from portraitlab.method.objective.base import Denoising, Term


class MaskedNoiseLoss(Term):
    """Mean over all latents of the squared error times the face mask.

    The mask is the share of each latent cell that the face covers, as Break-a-scene (Avrahami et
    al., 2023), which the paper follows, brings a mask down to the latents. The error is the
    velocity's where the UNet predicts that. A face that fills less of the picture weighs less; with
    a mask of ones it is NoiseLoss.
    """

    wants: ClassVar[tuple[str, ...]] = ("face_mask",)

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__(weight)

    def forward(self, denoising: Denoising) -> Tensor:
        """Compute the loss over all samples.

        Returns a process's share of the whole batch's loss, times the number of processes.
        """
        mask = denoising.batch.face_mask
        assert mask is not None, "named by `wants`"
        target = denoising.backbone.training_target(
            denoising.batch.latents, denoising.noise, denoising.timesteps
        )
        error = (mask[:, None] * (denoising.prediction - target)).square()
        split = denoising.split
        whole = len(denoising.all_timesteps) * error[0].numel()
        return split.processes * error.sum() / whole
