"""The adapter: identity tokens in the UNet's own cross-attentions (HiFi-Portrait, Table 3)."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace

from diffusers import ControlNetModel
from torch import Tensor, nn

from portraitlab.backbone.diffusion import Backbone
from portraitlab.net.attention import DecoupledCrossAttention
from portraitlab.net.base import Net
from portraitlab.net.frozen_control import FrozenControl
from portraitlab.net.noise_gate import NoiseGate
from portraitlab.types import Condition, Injection


class Adapter(Net):
    """IP-Adapter's decoupled cross-attention (Ye et al., 2023) with a mask over references.

    Sets processors into the backbone's cross-attentions that read identity tokens through keys and
    values of their own, and leave the backbone as it was where no tokens are injected. Keys and
    values start as copies of the text's, as in IP-Adapter. scale: weight of what they add.
    noise_gate: power of the NoiseGate by which that is multiplied; 0 is without. controlnet: reads
    the control image where there is one, and is not trained (FrozenControl). start: weights of keys
    and values trained with this UNet, by their names here, in place of the text's.

    Raises ValueError without identity, for a negative noise_gate, with control where there is
    no controlnet, and for a start that does not fit the UNet.
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
        if not identity:
            raise ValueError(
                "net=adapter has nothing to read with fusion=none; choose a fusion or net=none."
            )
        self.gate = NoiseGate(backbone, noise_gate)
        self.frozen_control = FrozenControl("adapter", backbone, control, controlnet)
        self.keys = nn.ModuleList()
        self.values = nn.ModuleList()
        processors = backbone.unet.attn_processors
        for name in processors:
            if name.endswith("attn2.processor"):
                attention = backbone.unet.get_submodule(name.removesuffix(".processor"))
                # What is trained is so in single precision, whatever the backbone's.
                key = deepcopy(attention.to_k).float().requires_grad_(True)
                value = deepcopy(attention.to_v).float().requires_grad_(True)
                self.keys.append(key)
                self.values.append(value)
                processors[name] = DecoupledCrossAttention(key, value, scale)
        backbone.unet.set_attn_processor(processors)
        if start is not None:
            self._load_start(start)

    def forward(self, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Injection:
        """Identity tokens for the adapted cross-attentions, and residuals of what is drawn."""
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
