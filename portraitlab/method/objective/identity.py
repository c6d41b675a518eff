"""The face identity loss on the decoded estimate (HiFi-Portrait, eq. 7)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from portraitlab.faces.alignment import face_crops
from portraitlab.faces.encoder.models import Recogniser
from portraitlab.method.objective.base import Denoising, Term


class IdentityLoss(Term):
    """E_det(x) · (1 - cos(F_id, E_id(x))) for the image x that the prediction implies.

    recogniser: E_id, embeds crops of its own alignment, differentiable in them. regressor: E_det,
    images [B, 3, H, W] to FaceGeometry; a score above threshold is a face, whose keypoints align
    the crop. Both are frozen. weight: alpha of eq. 8.

    The decoder and two networks cost as much as the noise loss, so the term can be limited: to the
    training after start_fraction, to every `every`-th step, to timesteps from timestep_min to
    timestep_max, and to `samples` samples of a step's whole batch (None: all). The defaults set no
    limit.

    Raises ValueError for limits that never leave a sample.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        regressor: nn.Module,
        weight: float = 0.1,
        threshold: float = 0.5,
        start_fraction: float = 0.0,
        every: int = 1,
        samples: int | None = None,
        timestep_min: int = 0,
        timestep_max: int = 1000,
    ) -> None:
        # Check that the limits leave samples.
        super().__init__(weight)
        if every < 1 or (samples is not None and samples < 1) or timestep_min > timestep_max:
            raise ValueError(
                f"The identity loss never acts with every={every}, samples={samples}, "
                f"timestep_min={timestep_min}, timestep_max={timestep_max}; every and samples must "
                "be 1 or more, and timestep_min at most timestep_max. To leave it out choose "
                "objective=noise."
            )
        # Keep the frozen networks and the limits.
        self.recogniser = recogniser
        self.regressor = regressor
        self.threshold = threshold
        self.start_fraction = start_fraction
        self.every = every
        self.samples = samples
        self.timestep_min = timestep_min
        self.timestep_max = timestep_max
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> IdentityLoss:
        """Stay in evaluation mode: both networks are frozen, batch statistics included."""
        return super().train(False)

    def forward(self, denoising: Denoising) -> Tensor | None:
        """Average eq. 7 over the samples within the limits; None in a step without any.

        Returns a process's share of the whole batch's mean, times the number of processes.
        """
        # Choose the samples.
        if denoising.progress < self.start_fraction or denoising.step % self.every:
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
        share = denoising.split.processes * len(chosen) / len(of_whole)
        return share * self.loss(images, denoising.batch.identity[chosen])

    def loss(self, images: Tensor, identity: Tensor) -> Tensor:
        """Average eq. 7 over images [B, 3, H, W] in [-1, 1] with unit embeddings [B, d2'].

        Images without a face contribute 0 and have no gradient.
        """
        with torch.no_grad():
            geometry = self.regressor(images.detach())
        face = geometry.score > self.threshold
        if not face.any():
            return images.new_zeros(())
        crops = face_crops(images[face], geometry.keypoints[face], self.recogniser)
        embeddings = self.recogniser(crops)
        distance = 1 - functional.cosine_similarity(embeddings, identity[face])
        return distance.sum() / len(images)
