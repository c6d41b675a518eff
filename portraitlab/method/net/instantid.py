"""InstantID: IdentityNet for the face's layout, an adapter for its identity (Wang et al., 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from diffusers import ControlNetModel
from torch import Tensor, nn

from portraitlab.diffusion.backbone import Backbone
from portraitlab.method.net.adapter import Adapter
from portraitlab.method.net.base import Net
from portraitlab.method.net.control_branch import ControlBranch
from portraitlab.types import Condition, Injection


class InstantID(Net):
    """IdentityNet and the decoupled cross-attention beside it (Wang et al., InstantID, 2024).

    IdentityNet is a ControlNet that reads the five keypoints and, in place of the prompt, the
    identity tokens; HiFi-Net is modelled on it. The adapter reads the same tokens in the UNet.
    reads_noise, start: settings of IdentityNet, see ControlBranch. scale: weight of the adapter's
    attention. adapter_start: its start, see Adapter. noise_gate: power of the NoiseGate of both.

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
        self.check_identity("instantid", identity, "net=hifi_net")
        self.identity_net = ControlBranch(
            backbone, control, "tokens", "latents", reads_noise, noise_gate, start
        )
        # IdentityNet alone reads the control image.
        self.adapter = Adapter(backbone, False, True, scale, noise_gate, start=adapter_start)

    def forward(self, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Injection:
        """Inject IdentityNet's residuals, and identity tokens for the adapted cross-attentions."""
        residuals = self.identity_net(noisy, timesteps, condition)
        adapter = self.adapter(noisy, timesteps, condition)
        return replace(residuals, attention=adapter.attention, gate=adapter.gate)

    def stock(self) -> ControlNetModel:
        """Convert IdentityNet, see ControlBranch."""
        return self.identity_net.stock()

    def load_stock(self, stock: ControlNetModel) -> None:
        """Load IdentityNet's weights, see ControlBranch."""
        self.identity_net.load_stock(stock)

    def starting_at_zero(self) -> list[nn.Parameter]:
        """Return IdentityNet's output and input convolutions."""
        return self.identity_net.starting_at_zero()
