"""The adapter: identity tokens in the UNet's own cross-attentions (HiFi-Portrait, Table 3)."""

from __future__ import annotations

from copy import deepcopy

from torch import Tensor, nn

from portraitlab.backbone.diffusion import Backbone
from portraitlab.net.attention import DecoupledCrossAttention
from portraitlab.net.base import Net
from portraitlab.types import Condition, Injection


class Adapter(Net):
    """IP-Adapter's decoupled cross-attention (Ye et al., 2023) with a mask over references.

    Sets processors into the backbone's cross-attentions that read identity tokens through keys and
    values of their own, and leave the backbone as it was where no tokens are injected. Keys and
    values start as copies of the text's, as in IP-Adapter. scale: weight of what they add.

    Raises ValueError with control (it has no path for a control image) or without identity.
    """

    def __init__(
        self, backbone: Backbone, control: bool, identity: bool, scale: float = 1.0
    ) -> None:
        super().__init__(control, identity)
        if control:
            raise ValueError(
                "net=adapter takes no control image; choose cond=none or net=hifi_net."
            )
        if not identity:
            raise ValueError(
                "net=adapter has nothing to read with fusion=none; choose a fusion or net=none."
            )
        self.keys = nn.ModuleList()
        self.values = nn.ModuleList()
        processors = backbone.unet.attn_processors
        for name in processors:
            if name.endswith("attn2.processor"):
                attention = backbone.unet.get_submodule(name.removesuffix(".processor"))
                key = deepcopy(attention.to_k).requires_grad_(True)
                value = deepcopy(attention.to_v).requires_grad_(True)
                self.keys.append(key)
                self.values.append(value)
                processors[name] = DecoupledCrossAttention(key, value, scale)
        backbone.unet.set_attn_processor(processors)

    def forward(self, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Injection:
        """Identity tokens for the adapted cross-attentions, the same at every noise level."""
        return Injection(attention=condition.tokens)
