"""The face identity loss on the decoded estimate (HiFi-Portrait, eq. 7)."""

from __future__ import annotations

from torch import Tensor, nn

from portraitlab.faces.encoder.models import Recogniser
from portraitlab.method.objective.base import Denoising
from portraitlab.method.objective.face import FaceTerm


class IdentityLoss(FaceTerm):
    """E_det(x) · (1 - cos(F_id, E_id(x))) for the image x that the prediction implies.

    weight: alpha of eq. 8. timestep_min, timestep_max: the timesteps of the samples that it acts
    on. The other settings are FaceTerm's.

    Raises ValueError for limits that never leave a sample.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        regressor: nn.Module | None,
        weight: float = 0.1,
        threshold: float = 0.5,
        start_fraction: float = 0.0,
        every: int = 1,
        samples: int | None = None,
        timestep_min: int = 0,
        timestep_max: int = 1000,
    ) -> None:
        super().__init__(recogniser, regressor, weight, threshold, start_fraction, every, samples)
        if timestep_min > timestep_max:
            raise ValueError(
                f"The identity loss never acts with timestep_min={timestep_min} and "
                f"timestep_max={timestep_max}; the first must be at most the second. "
                "To leave it out choose an objective without it."
            )
        self.timestep_min = timestep_min
        self.timestep_max = timestep_max

    def forward(self, denoising: Denoising) -> Tensor | None:
        """Average eq. 7 over the samples within the limits; None in a step without any.

        Returns a process's share of the whole batch's mean, times the number of processes.
        """
        # Choose the samples.
        if not self.acts(denoising):
            return None
        whole = denoising.all_timesteps
        acts = (whole >= self.timestep_min) & (whole <= self.timestep_max)
        of_whole = acts.nonzero().flatten()[: self.samples]
        if not len(of_whole):
            return None
        chosen = denoising.split.places(of_whole)
        if not len(chosen):
            return denoising.prediction.new_zeros(())
        # Decode their clean estimates.
        timesteps = denoising.timesteps
        clean = denoising.backbone.clean_estimate(
            denoising.noisy[chosen], denoising.prediction[chosen], timesteps[chosen]
        )
        images = denoising.backbone.decode(clean)
        # Compare them with the references.
        batch = denoising.batch
        keypoints = batch.target_geometry.keypoints[chosen]
        share = denoising.split.processes * len(chosen) / len(of_whole)
        return share * self.loss(images, batch.identity[chosen], keypoints)
