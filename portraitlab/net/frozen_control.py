"""A control image for nets that have no path of their own for one (HiFi-Portrait, Sec. 4.2)."""

from __future__ import annotations

from dataclasses import replace

from diffusers import ControlNetModel
from torch import Tensor, nn

from portraitlab.backbone.diffusion import Backbone
from portraitlab.backbone.precisions import products_in
from portraitlab.net.hifi_net import HiFiNet
from portraitlab.types import Condition, Injection


class FrozenControl(nn.Module):
    """A published ControlNet beside a method that injects identity in another way.

    For a fair comparison the paper gives landmark images through a ControlNet to all methods that
    lack them. It is not trained: it reads the control image and the prompt, as the foundation's
    learnt to where there are no identity tokens. Without control there is none, and nothing is
    injected. net: name of the net that it is a part of.

    Raises ValueError where there is a control image and no ControlNet that reads it.
    """

    def __init__(
        self, net: str, backbone: Backbone, control: bool, controlnet: ControlNetModel | None
    ) -> None:
        super().__init__()
        if control and controlnet is None:
            raise ValueError(
                f"net={net} has no path for a control image, and net.controlnet is null; give one "
                "that was trained with the backbone, or choose cond=none or net=hifi_net."
            )
        # As the foundation's was trained (portraitlab/world/train/ways_in.py).
        self.reader = (
            HiFiNet(
                backbone,
                control=True,
                identity=False,
                reads_noise=False,
                noise_gate=1.0,
                start=controlnet,
            )
            if control
            else None
        )
        # Frozen, so it is in the backbone's precision.
        products_in(self.requires_grad_(False), backbone.precision)

    def forward(self, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Injection:
        """Residuals for noisy latents [B, c, h, w] at timesteps [B]."""
        if self.reader is None:
            return Injection()
        return self.reader(noisy, timesteps, replace(condition, tokens=None))
