"""InstantID: a net that says where the face is, and an adapter that says whose (Wang et al.)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from diffusers import ControlNetModel
from torch import Tensor, nn

from portraitlab.backbone.diffusion import Backbone
from portraitlab.net.adapter import Adapter
from portraitlab.net.base import Net
from portraitlab.net.hifi_net import HiFiNet
from portraitlab.types import Condition, Injection


class InstantID(Net):
    """IdentityNet and the decoupled cross-attention beside it (Wang et al., InstantID, 2024).

    IdentityNet is a ControlNet that reads the five keypoints and, in place of the prompt, the
    identity tokens, which makes it what HiFi-Net is built after; the tokens that its adapter reads
    in the UNet are the same. reads_noise and start: of IdentityNet, see HiFiNet. scale: weight of
    what the adapter adds; adapter_start: its start, see Adapter. noise_gate: of both.

    Raises ValueError without identity.
    """

    stock_part = "identity_net.controlnet"

    def __init__(
        self,
        backbone: Backbone,
        control: bool,
        identity: bool,
        scale: float = 1.0,
        reads_noise: bool = True,
        noise_gate: float = 0.0,
        start: ControlNetModel | None = None,
        adapter_start: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__(control, identity)
        if not identity:
            raise ValueError(
                "net=instantid has nobody to draw with fusion=none; choose a fusion or "
                "net=hifi_net."
            )
        self.identity_net = HiFiNet(backbone, control, True, reads_noise, noise_gate, start)
        # The control image is IdentityNet's.
        self.adapter = Adapter(backbone, False, True, scale, noise_gate, start=adapter_start)

    def forward(self, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Injection:
        """IdentityNet's residuals, and identity tokens for the adapted cross-attentions."""
        placed = self.identity_net(noisy, timesteps, condition)
        told = self.adapter(noisy, timesteps, condition)
        return replace(placed, attention=told.attention, gate=told.gate)

    def stock(self) -> ControlNetModel:
        """IdentityNet, see HiFiNet."""
        return self.identity_net.stock()

    def load_stock(self, stock: ControlNetModel) -> None:
        """Take IdentityNet's weights, see HiFiNet."""
        self.identity_net.load_stock(stock)

    def starting_at_zero(self) -> list[nn.Parameter]:
        """IdentityNet's convolutions on the way out and in."""
        return self.identity_net.starting_at_zero()
