"""The diffusion loss (HiFi-Portrait, eq. 6)."""

from __future__ import annotations

from torch import Tensor

from portraitlab.method.objective.base import Denoising, Term
from portraitlab.support.checks import check_number


class NoiseLoss(Term):
    """Mean squared error of the predicted noise, or velocity where the UNet predicts that.

    background_weight: weight of errors on the background relative to the person; 1 is eq. 6. The
    papers' implementations minimise the mean square where eq. 6 has a norm.
    """

    def __init__(self, weight: float = 1.0, background_weight: float = 1.0) -> None:
        super().__init__(weight)
        name = "objective.terms.noise.background_weight"
        check_number(name, background_weight, least=0, most=1, hint="; 1 is the paper's")
        self.background_weight = background_weight

    def forward(self, denoising: Denoising) -> Tensor:
        """Compute the loss over all samples.

        Returns a process's share of the whole batch's loss, times the number of processes.
        """
        target = denoising.backbone.training_target(
            denoising.batch.latents, denoising.noise, denoising.timesteps
        )
        error = (denoising.prediction - target).square()
        person = denoising.batch.person
        weight = person + self.background_weight * (1 - person)
        split = denoising.split
        whole = split.total(weight.sum()) * error.shape[1]
        return split.processes * (weight * error).sum() / whole
