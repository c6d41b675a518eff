"""HiFi-Net: a ControlNet that reads landmarks and several faces (HiFi-Portrait, appendix B)."""

from __future__ import annotations

import torch
from diffusers import ControlNetModel
from torch import Tensor, nn

from portraitlab.backbone.diffusion import Backbone
from portraitlab.net.attention import MaskedCrossAttention
from portraitlab.net.base import Net
from portraitlab.types import Condition, Injection


class HiFiNet(Net):
    """A trained copy of the UNet's encoder whose outputs are added to the frozen UNet.

    Differs from ControlNet (Zhang et al., 2023) in two ways. The control image enters as latents
    z_lmk, less those of an empty drawing, through one convolution that starts at zero: the latents
    of black are far from zero everywhere, and would drown what is drawn. And cross-attention reads
    the identity tokens of all references instead of the prompt; with fusion=none it reads the
    prompt. The zero convolutions on the way out make it change nothing before the first step.

    Raises ValueError where neither control nor identity is given, since nothing would steer.
    """

    empty_drawing: Tensor

    def __init__(self, backbone: Backbone, control: bool, identity: bool) -> None:
        super().__init__(control, identity)
        size = backbone.image_size
        black = -torch.ones(1, 3, size, size, device=backbone.latent_scale.device)
        with torch.no_grad():
            empty = backbone.encode(black) if control else None
        # Not saved with a run: it follows from the backbone.
        self.register_buffer("empty_drawing", empty, persistent=False)
        if not control and not identity:
            raise ValueError(
                "net=hifi_net has nothing to read with fusion=none and cond=none; "
                "choose a fusion or a cond, or net=none for the backbone alone."
            )
        # The pixel path that diffusers builds is replaced at once, so it is built small.
        self.controlnet = ControlNetModel.from_unet(
            backbone.unet, conditioning_embedding_out_channels=(1, 1)
        )
        self.controlnet.controlnet_cond_embedding = (
            _zero_convolution(backbone.latent_channels, self.controlnet.conv_in.out_channels)
            if control
            else nn.Identity()
        )
        if identity:
            self.controlnet.set_attn_processor(
                {
                    name: MaskedCrossAttention() if name.endswith("attn2.processor") else processor
                    for name, processor in self.controlnet.attn_processors.items()
                }
            )

    def forward(self, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Injection:
        """Residuals for the UNet's skip connections and middle."""
        tokens, control = condition.tokens, condition.control_latents
        if tokens is None and control is None:
            return Injection()
        down, mid = self.controlnet(
            noisy,
            timesteps,
            encoder_hidden_states=condition.text if tokens is None else tokens.tokens,
            controlnet_cond=noisy.new_zeros(())
            if control is None
            else control - self.empty_drawing,
            cross_attention_kwargs=None if tokens is None else {"ip_adapter_masks": tokens.mask},
            return_dict=False,
        )
        return Injection(down=tuple(down), mid=mid)


def _zero_convolution(in_channels: int, out_channels: int) -> nn.Conv2d:
    convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    nn.init.zeros_(convolution.weight)
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return convolution
