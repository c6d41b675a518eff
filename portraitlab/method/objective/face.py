"""The base class of losses that compare the identity of generated faces."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from portraitlab.faces.alignment import face_crops
from portraitlab.faces.encoder.models import Recogniser
from portraitlab.method.objective.base import Denoising, Term


class FaceTerm(Term):
    """1 - cos(F_id, E_id(x)) for images x that a subclass generates (HiFi-Portrait, eq. 7).

    recogniser: E_id, embeds crops of its own alignment, differentiable in them. regressor: E_det,
    images [B, 3, H, W] to FaceGeometry; a score above threshold is a face, whose keypoints align
    the crop. None aligns every crop by the target's own keypoints, so that the loss is defined at
    every noise level and for faces of every size (Xu et al., WithAnyone, 2025). Both are frozen.

    Generating and comparing images costs as much as the noise loss, so the term can be limited: to
    the training after start_fraction, to every `every`-th step, and to `samples` samples of a
    step's whole batch (None: all). The defaults set no limit.

    Raises ValueError for limits that never leave a sample.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        regressor: nn.Module | None,
        weight: float,
        threshold: float = 0.5,
        start_fraction: float = 0.0,
        every: int = 1,
        samples: int | None = None,
    ) -> None:
        super().__init__(weight)
        if every < 1 or (samples is not None and samples < 1):
            raise ValueError(
                f"The {type(self).__name__} never acts with every={every}, samples={samples}; both "
                "must be 1 or more. To leave it out choose an objective without it."
            )
        self.recogniser = recogniser
        self.regressor = regressor
        self.threshold = threshold
        self.start_fraction = start_fraction
        self.every = every
        self.samples = samples
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: all networks are frozen, batch statistics included."""
        return super().train(False)

    def acts(self, denoising: Denoising) -> bool:
        """Check whether the term acts in this step; never on cloned faces, which are two."""
        if denoising.batch.clones is not None:
            return False
        return denoising.progress >= self.start_fraction and not denoising.step % self.every

    def loss(self, images: Tensor, identity: Tensor, keypoints: Tensor | None = None) -> Tensor:
        """Average eq. 7 over images [B, 3, H, W] in [-1, 1] with unit embeddings [B, d2'].

        keypoints [B, 5, 2]: the targets', which align the faces without a regressor. Images in
        which the regressor finds no face contribute 0 and have no gradient.
        """
        if self.regressor is None:
            assert keypoints is not None
            face = torch.ones(len(images), dtype=torch.bool, device=images.device)
        else:
            with torch.no_grad():
                geometry = self.regressor(images.detach())
            face, keypoints = geometry.score > self.threshold, geometry.keypoints
        if not face.any():
            return images.new_zeros(())
        crops = face_crops(images[face], keypoints[face], self.recogniser)
        embeddings = self.recogniser(crops)
        distance = 1 - functional.cosine_similarity(embeddings, identity[face])
        return distance.sum() / len(images)
