"""Random features: a control that any descriptor beats."""

from __future__ import annotations

import torch
from torch import Tensor

from portraitlab.method.model import PortraitModel
from portraitlab.scoring.matching import SampledPair


class RandomPlaces:
    """Random features, whose best matches are random places."""

    def __call__(
        self, model: PortraitModel, pair: SampledPair, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Draw features of the latents' size."""
        shape = len(pair), 16, model.backbone.latent_size, model.backbone.latent_size
        own, other = (torch.randn(shape, generator=generator).to(pair.style) for _ in range(2))
        return own, other
