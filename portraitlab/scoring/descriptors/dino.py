"""Patch tokens of a self-supervised vision transformer."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from portraitlab.method.model import PortraitModel
from portraitlab.scoring.matching import SampledPair
from portraitlab.world.models.dino import SelfSupervisedEncoder
from portraitlab.world.pretrained import load_dino


class DinoDescriptor:
    """Patch tokens of the world's self-supervised vision transformer, 8 px each."""

    @cached_property
    def encoder(self) -> SelfSupervisedEncoder:
        """The encoder, loaded when it is first needed."""
        return load_dino()

    def __call__(
        self, model: PortraitModel, pair: SampledPair, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Compute features of the style picture and of the profile."""
        own, other = (
            self.encoder.to(picture.device)
            .tokens(picture)[:, 1:]
            .mT.unflatten(2, tuple(edge // 8 for edge in picture.shape[-2:]))
            for picture in (pair.style, pair.profile)
        )
        return own, other
