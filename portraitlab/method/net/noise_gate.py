"""Weigh a net's injection by the noise level."""

from __future__ import annotations

from torch import Tensor, nn

from portraitlab.diffusion.backbone import Backbone
from portraitlab.support.checks import check_number


class NoiseGate(nn.Module):
    """A weight: the noise's share of a noisy latent's variance, to a power; with power 0 it is 1.

    At low noise there is little to correct, and a net trained at high noise does harm.

    Raises ValueError for a negative power.
    """

    noise_share: Tensor

    def __init__(self, backbone: Backbone, power: float) -> None:
        super().__init__()
        check_number("net.noise_gate", power, least=0, hint="; 0 is none")
        self.power = power
        # Not saved with a run, since it follows from the backbone.
        noise_share = 1 - backbone.scheduler.alphas_cumprod
        self.register_buffer("noise_share", noise_share, persistent=False)

    def forward(self, timesteps: Tensor) -> Tensor:
        """Compute weights [B] in [0, 1] at timesteps [B]."""
        return self.noise_share[timesteps] ** self.power
