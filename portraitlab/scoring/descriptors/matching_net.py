"""Features of the branch that reads both pictures side by side (IC-Portrait, Sec. 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from portraitlab.diffusion.encoder_features import features_of
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.in_context import InContext
from portraitlab.scoring.descriptors.dift import noisy_latents
from portraitlab.scoring.matching import SampledPair
from portraitlab.support.checks import check_whole
from portraitlab.types import Condition, TextFeatures


class MatchingNet:
    """Features of IC-Portrait's branch that reads both pictures side by side (Sec. 3.3).

    The branch is the model's net. timestep: noise level of the two pictures' latents.
    """

    def __init__(self, timestep: int = 261) -> None:
        self.timestep = check_whole("timestep", timestep, 0)

    def __call__(
        self, model: PortraitModel, pair: SampledPair, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Compute features of both halves of a pair."""
        backbone, net = model.backbone, model.net
        if not isinstance(net, InContext):
            raise ValueError("the model has no matching net; choose system=ic_portrait")
        latents = torch.cat([backbone.encode(pair.style), backbone.encode(pair.profile)], dim=-1)
        (noisy,), timesteps = noisy_latents(backbone, latents, self.timestep, generator)
        condition = Condition(
            text=TextFeatures(net.image_prompt(pair.profile)),
            tokens=None,
            drawing=torch.cat([pair.sampled, pair.profile], dim=-1),
        )
        return net.descriptors(features_of(net.controlnet, net.layer), noisy, timesteps, condition)
