"""The original ControlNet: a trained copy of the UNet's encoder that reads a control image."""

from __future__ import annotations

from copy import deepcopy

from diffusers import ControlNetModel
from torch import Tensor, nn

from portraitlab.diffusion.backbone import Backbone
from portraitlab.method.net.base import Net
from portraitlab.method.net.stock import load_alike
from portraitlab.types import Condition, Injection

_STAGES = (16, 32, 96, 256)
"""Channels of the control image's embedding, as published."""


class ControlNet(Net):
    """ControlNet of Zhang et al. (2023), without identity tokens.

    The control image enters as pixels through a few convolutions. FPGA compares its reparameterised
    net with this one (Sec. 3.3 and Table 5). start: a published ControlNet, trained with the
    backbone's UNet, to train further; None starts from a copy of the UNet's encoder.

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
        # Each stage of the embedding halves the image: three for the published eight pixels per
        # latent cell.
        halvings = (backbone.image_size // backbone.latent_size).bit_length() - 1
        stages = _STAGES[: halvings + 1]
        self.controlnet = (
            ControlNetModel.from_unet(backbone.unet, conditioning_embedding_out_channels=stages)
            if start is None
            else deepcopy(start).requires_grad_(True)
        )

    def forward(self, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Injection:
        """Compute residuals for the UNet's skip connections and middle."""
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
        """Return the net itself; it reads the control image in [0, 1]."""
        return self.controlnet

    def load_stock(self, stock: ControlNetModel) -> None:
        """Load its weights. Raises ValueError for another architecture."""
        load_alike(self.controlnet, stock.state_dict())

    def starting_at_zero(self) -> list[nn.Parameter]:
        """Return the output convolutions, and the last one of the control image's embedding."""
        net = self.controlnet
        modules = [*net.controlnet_down_blocks, net.controlnet_mid_block]
        modules.append(net.controlnet_cond_embedding.conv_out)
        return [parameter for module in modules for parameter in module.parameters()]
