"""The adapter: identity tokens in the UNet's own cross-attentions (HiFi-Portrait, Table 3)."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace

from diffusers import ControlNetModel
from torch import Tensor, nn

from portraitlab.diffusion.backbone import Backbone
from portraitlab.method.net.attention import DecoupledCrossAttention
from portraitlab.method.net.base import Net
from portraitlab.method.net.frozen_control import FrozenControl
from portraitlab.method.net.noise_gate import NoiseGate
from portraitlab.types import Condition, Injection


class Adapter(Net):
    """IP-Adapter's decoupled cross-attention (Ye et al., 2023) with a mask over references.

    Sets processors in the backbone's cross-attentions that read identity tokens through their own
    keys and values; the backbone is unchanged where no tokens are injected. Keys and values start
    as copies of the text's, as in IP-Adapter. scale: weight of the added attention. noise_gate:
    power of the NoiseGate that multiplies it; 0 disables the gate. controlnet: reads the control
    image where there is one, and is frozen (FrozenControl). start: weights of keys and values
    trained with this UNet, by their names here, in place of the text's.

    Raises ValueError without identity, for a negative noise_gate, with control but without a
    controlnet, and for a start that does not fit the UNet.
    """

    def __init__(
        self,
        backbone: Backbone,
        control: bool,
        identity: bool,
        scale: float = 1.0,
        noise_gate: float = 0.0,
        controlnet: ControlNetModel | None = None,
        start: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__(control, identity)
        self.check_identity("adapter", identity)
        self.gate = NoiseGate(backbone, noise_gate)
        self.frozen_control = FrozenControl("adapter", backbone, control, controlnet)
        # Add keys and values for identity tokens to every cross-attention.
        self.keys = nn.ModuleList()
        self.values = nn.ModuleList()
        processors = backbone.unet.attn_processors
        for name in processors:
            if name.endswith("attn2.processor"):
                attention = backbone.unet.get_submodule(name.removesuffix(".processor"))
                # Trained weights are in single precision, whatever the backbone's.
                key = deepcopy(attention.to_k).float().requires_grad_(True)
                value = deepcopy(attention.to_v).float().requires_grad_(True)
                self.keys.append(key)
                self.values.append(value)
                processors[name] = DecoupledCrossAttention(key, value, scale)
        backbone.unet.set_attn_processor(processors)
        if start is not None:
            self._load_start(start)

    def forward(self, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Injection:
        """Inject identity tokens in the cross-attentions, and residuals of the control image."""
        drawn = self.frozen_control(noisy, timesteps, condition)
        return replace(drawn, attention=condition.tokens, gate=self.gate(timesteps))

    def _load_start(self, start: Mapping[str, Tensor]) -> None:
        needed = {
            name: tuple(value.shape)
            for name, value in self.state_dict().items()
            if name.startswith(("keys.", "values."))
        }
        given = {name: tuple(value.shape) for name, value in start.items()}
        if given != needed:
            raise ValueError(
                f"net.start has keys and values {given}, and the backbone's UNet needs {needed}; "
                "give one trained with it, or net.start=null to start from the text's."
            )
        self.load_state_dict(start, strict=False)
