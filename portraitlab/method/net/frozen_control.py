"""A frozen ControlNet for nets without a path for the control image (HiFi-Portrait, Sec. 4.2)."""

from __future__ import annotations

from diffusers import ControlNetModel
from torch import Tensor, nn

from portraitlab.diffusion.backbone import Backbone
from portraitlab.diffusion.precisions import products_in
from portraitlab.method.net.control_branch import ControlBranch
from portraitlab.types import Condition, Injection


class FrozenControl(nn.Module):
    """A frozen ControlNet beside a method that injects identity in another way.

    For a fair comparison the paper adds landmark images by a ControlNet to all methods without
    them. It reads the control image and the prompt, as the miniature's ControlNet was pretrained
    to without identity tokens. Without control it injects nothing. net: name of the net that it is
    a part of, for errors.

    Raises ValueError where there is a control image but no ControlNet.
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
        # The settings that it was pretrained with (portraitlab/pretraining/ways_in.py).
        self.reader = (
            ControlBranch(
                backbone,
                control=True,
                reads="text",
                way_in="latents",
                reads_noise=False,
                noise_gate=1.0,
                start=controlnet,
            )
            if control
            else None
        )
        # Frozen weights are in the backbone's precision.
        products_in(self.requires_grad_(False), backbone.precision)

    def forward(self, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Injection:
        """Compute residuals for noisy latents [B, c, h, w] at timesteps [B]."""
        if self.reader is None:
            return Injection()
        return self.reader(noisy, timesteps, condition)
