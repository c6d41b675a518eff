"""HiFi-Net: a ControlNet that reads landmarks and several faces (HiFi-Portrait, appendix B)."""

from __future__ import annotations

from copy import deepcopy

import torch
from diffusers import ControlNetModel
from torch import Tensor, nn

from portraitlab.diffusion.backbone import Backbone
from portraitlab.method.net.attention import MaskedCrossAttention
from portraitlab.method.net.base import Net
from portraitlab.method.net.noise_gate import NoiseGate
from portraitlab.method.net.stock import as_stock, check_fit, load_from_stock
from portraitlab.types import Condition, Injection


class HiFiNet(Net):
    """A trained copy of the UNet's encoder whose outputs are added to the frozen UNet.

    It differs from ControlNet (Zhang et al., 2023) in two ways. The control image enters as latents
    z_lmk, minus those of an empty drawing, since the latents of black are far from zero everywhere
    and would dominate the drawing's. And cross-attention reads the identity tokens of all
    references instead of the prompt; with fusion=none it reads the prompt. Zero convolutions at the
    outputs make it change nothing before the first step.

    reads_noise: True adds z_lmk, through a convolution that starts at zero, to the copy's features
    of the noisy latents, as ControlNet does. False reads z_lmk in place of the noisy latents, so
    that the queries of cross-attention depend on z_lmk alone, as in eq. 5; without a control image
    the noisy latents are read in either case. noise_gate: power of the NoiseGate that multiplies
    all residuals; 0 disables the gate.

    start: a ControlNet trained with this UNet, which is copied instead of the UNet's encoder. It
    may have cross-attention at more resolutions, and changes the output from the first step.

    Raises ValueError where neither control nor identity is given, for a negative noise_gate, and
    for a start whose residuals do not fit the UNet.
    """

    empty_drawing: Tensor
    stock_part = "controlnet"

    def __init__(
        self,
        backbone: Backbone,
        control: bool,
        identity: bool,
        reads_noise: bool = True,
        noise_gate: float = 0.0,
        start: ControlNetModel | None = None,
    ) -> None:
        super().__init__(control, identity)
        if not control and not identity:
            raise ValueError(
                "net=hifi_net has nothing to read with fusion=none and cond=none; "
                "choose a fusion or a cond, or net=none for the backbone alone."
            )
        if start is not None:
            remedy = "net.start=null to start from a copy of the UNet's encoder"
            check_fit(start, backbone, "net.start", remedy)
        self.reads_noise = reads_noise
        self.gate = NoiseGate(backbone, noise_gate)
        # Encode an empty drawing.
        size = backbone.image_size
        black = -torch.ones(1, 3, size, size, device=backbone.latent_scale.device)
        with torch.no_grad():
            empty = backbone.encode(black) if control else None
        # Not saved with a run, since it follows from the backbone.
        self.register_buffer("empty_drawing", empty, persistent=False)
        # Copy the encoder, and replace diffusers' embedding of pixels, which is built small.
        self.controlnet = (
            ControlNetModel.from_unet(backbone.unet, conditioning_embedding_out_channels=(1, 1))
            if start is None
            else deepcopy(start).requires_grad_(True)
        )
        self.controlnet.controlnet_cond_embedding = (
            _zero_convolution(backbone.latent_channels, self.controlnet.conv_in.out_channels)
            if control and reads_noise
            else nn.Identity()
        )
        # Keep the backbone's attention processor where no identity tokens are read.
        own = next(iter(backbone.unet.attn_processors.values()))
        self.controlnet.set_attn_processor(
            {
                name: MaskedCrossAttention()
                if identity and name.endswith("attn2.processor")
                else own
                for name in self.controlnet.attn_processors
            }
        )

    def forward(self, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Injection:
        """Compute residuals for the UNet's skip connections and middle."""
        tokens, control = condition.tokens, condition.drawing
        if tokens is None and control is None:
            return Injection()
        # Choose the inputs: the control image in place of the noisy latents, or beside them.
        drawn = None if control is None else control - self.empty_drawing
        read, beside = noisy, noisy.new_zeros(())
        if self.control and self.reads_noise:
            beside = torch.zeros_like(noisy)
        if drawn is not None:
            read, beside = (noisy, drawn) if self.reads_noise else (drawn, beside)
        # Compute and gate the residuals.
        down, mid = self.controlnet(
            read,
            timesteps,
            encoder_hidden_states=condition.text.words if tokens is None else tokens.tokens,
            added_cond_kwargs=condition.text.added,
            controlnet_cond=beside,
            cross_attention_kwargs=None if tokens is None else {"ip_adapter_masks": tokens.mask},
            return_dict=False,
        )
        gate = self.gate(timesteps).view(-1, 1, 1, 1)
        return Injection(down=tuple(gate * residual for residual in down), mid=gate * mid)

    def stock(self) -> ControlNetModel:
        """Convert the net to diffusers' own class; weights are shared where possible.

        The result reads the noisy latents, the tokens of the unmasked references in place of the
        prompt's features, and z_lmk minus the empty drawing's latents as the control image. A noise
        gate is its conditioning_scale. For a net without control it ignores the control image.
        """
        return as_stock(self.controlnet, self._input_convolution())

    def load_stock(self, stock: ControlNetModel) -> None:
        """Load the weights of a result of `stock`. Raises ValueError for another architecture."""
        load_from_stock(self.controlnet, self._input_convolution(), stock)

    def _input_convolution(self) -> str | None:
        """Return the name of the control image's input convolution; None where there is none."""
        if not self.control:
            return None
        return "controlnet_cond_embedding" if self.reads_noise else "conv_in"

    def starting_at_zero(self) -> list[nn.Parameter]:
        """Return the output convolutions and, where there is one, the input convolution.

        The output convolutions start at zero only where the net is a copy of the UNet's encoder.
        """
        net = self.controlnet
        modules = [*net.controlnet_down_blocks, net.controlnet_mid_block]
        modules.append(net.controlnet_cond_embedding)
        return [parameter for module in modules for parameter in module.parameters()]


def _zero_convolution(in_channels: int, out_channels: int) -> nn.Conv2d:
    convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    nn.init.zeros_(convolution.weight)
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    return convolution
