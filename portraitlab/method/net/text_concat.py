"""Identity tokens appended to the prompt's, without a net of their own (FaceSnap, Table 3)."""

from __future__ import annotations

from dataclasses import replace

from diffusers import ControlNetModel
from torch import Tensor

from portraitlab.diffusion.backbone import Backbone
from portraitlab.method.net.attention import AppendedAttention
from portraitlab.method.net.base import Net
from portraitlab.method.net.frozen_control import FrozenControl
from portraitlab.method.net.noise_gate import NoiseGate
from portraitlab.types import Condition, Injection


class TextConcat(Net):
    """Identity tokens that the UNet's own cross-attention reads behind the prompt's features.

    FaceSnap's row "without FFRNet" (Sec. 3.3, Table 3): the fused features are "concatenated with
    text features" and "embedded into the pre-trained cross-attention layers". **Only the fusion is
    trained**: a reading of ours, since the paper keeps the pretrained model frozen (Sec. 2.2) and
    names no other weights. The fusion learns tokens that the pretrained keys and values can read;
    the net itself has no trained weight.

    noise_gate: power of the NoiseGate that weighs the tokens' change of an attention's output; 0
    disables the gate. controlnet: reads the control image where there is one, and is frozen
    (FrozenControl).

    Raises ValueError without identity, for a negative noise_gate, and with control but without a
    controlnet.
    """

    def __init__(
        self,
        backbone: Backbone,
        control: bool,
        identity: bool,
        noise_gate: float = 0.0,
        controlnet: ControlNetModel | None = None,
    ) -> None:
        super().__init__(control, identity)
        self.check_identity("text_concat", identity)
        self.gate = NoiseGate(backbone, noise_gate)
        self.frozen_control = FrozenControl("text_concat", backbone, control, controlnet)
        backbone.unet.set_attn_processor(
            {
                name: AppendedAttention(own) if name.endswith("attn2.processor") else own
                for name, own in backbone.unet.attn_processors.items()
            }
        )

    def forward(self, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Injection:
        """Inject identity tokens for the cross-attentions, and residuals of the control image."""
        drawn = self.frozen_control(noisy, timesteps, condition)
        gate = self.gate(timesteps) if self.gate.power else None
        return replace(drawn, attention=condition.tokens, gate=gate)
