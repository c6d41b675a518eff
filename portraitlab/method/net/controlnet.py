"""ControlNet as published: a trained copy of the UNet's encoder that reads a control image."""

from __future__ import annotations

from copy import deepcopy

from diffusers import ControlNetModel
from torch import Tensor, nn

from portraitlab.diffusion.backbone import Backbone
from portraitlab.method.net.base import Net
from portraitlab.method.net.stock import load_alike
from portraitlab.types import Condition, Injection

_STAGES = (16, 32, 96, 256)
"""Channels of the control image's way in, as published."""


class ControlNet(Net):
    """Zhang et al. (2023): who is drawn is left to the prompt.

    The control image enters as pixels, through a few convolutions of its own. FPGA compares its
    reparameterised net with this one (Sec. 3.3 and Table 5). start: a published one, trained with
    the backbone's UNet, to go on from; None starts from a copy of the UNet's encoder.

    Raises ValueError without a control image.
    """

    stock_part = "controlnet"

    def __init__(
        self,
        backbone: Backbone,
        control: bool,
        identity: bool,
        start: ControlNetModel | None = None,
    ) -> None:
        super().__init__(control, identity=False, pixels=True)
        if not control:
            raise ValueError(
                "net=controlnet has nothing to read with cond=none; choose a cond, or net=none for "
                "the backbone alone."
            )
        # Each stage of its way in halves the image, three of them for the published eight pixels a
        # cell of the latents.
        halvings = (backbone.image_size // backbone.latent_size).bit_length() - 1
        stages = _STAGES[: halvings + 1]
        self.controlnet = (
            ControlNetModel.from_unet(backbone.unet, conditioning_embedding_out_channels=stages)
            if start is None
            else deepcopy(start).requires_grad_(True)
        )

    def forward(self, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Injection:
        """Residuals for the UNet's skip connections and middle."""
        if condition.drawing is None:
            return Injection()
        down, mid = self.controlnet(
            noisy,
            timesteps,
            encoder_hidden_states=condition.text.words,
            added_cond_kwargs=condition.text.added,
            controlnet_cond=condition.drawing / 2 + 0.5,  # published ones read [0, 1]
            return_dict=False,
        )
        return Injection(down=tuple(down), mid=mid)

    def stock(self) -> ControlNetModel:
        """The net itself; the control image it reads is in [0, 1]."""
        return self.controlnet

    def load_stock(self, stock: ControlNetModel) -> None:
        """Take its weights. Raises ValueError where they are of another form."""
        load_alike(self.controlnet, stock.state_dict())

    def starting_at_zero(self) -> list[nn.Parameter]:
        """The convolutions on the way out, and the last of the control image's way in."""
        net = self.controlnet
        ways = [*net.controlnet_down_blocks, net.controlnet_mid_block]
        ways.append(net.controlnet_cond_embedding.conv_out)
        return [parameter for way in ways for parameter in way.parameters()]
