"""PhotoMaker: stacked identity embeddings among the prompt's features (Li et al., 2024)."""

from __future__ import annotations

from dataclasses import replace

import torch
from diffusers import ControlNetModel
from torch import Tensor, nn

from portraitlab.diffusion.backbone import Backbone
from portraitlab.method.net.base import Net
from portraitlab.method.net.frozen_control import FrozenControl
from portraitlab.method.net.low_rank import LowRankAttention, LowRankWeights
from portraitlab.method.net.noise_gate import NoiseGate
from portraitlab.types import Condition, IdentityTokens, Injection


class PhotoMaker(Net):
    """A net that appends image embeddings to the prompt's features in the UNet's cross-attention.

    Each reference's token is fused with the text embedding of the class word, the last word of
    class_prompt; the fused tokens of all references are the stacked ID embedding (Sec. 3.2). All
    attentions of the UNet have low-rank updates of `rank`, which are used only with a stacked
    embedding: without one the output is the backbone's to the bit. noise_gate: power of the
    NoiseGate that weighs the change by both; 0 disables the gate. controlnet: reads the control
    image where there is one, and is frozen (FrozenControl).

    Raises ValueError without identity, for a rank below 1 or a negative noise_gate, and with
    control but without a controlnet.
    """

    class_word: Tensor

    def __init__(
        self,
        backbone: Backbone,
        control: bool,
        identity: bool,
        rank: int = 64,
        class_prompt: str = "a photo of a person",
        noise_gate: float = 0.0,
        controlnet: ControlNetModel | None = None,
    ) -> None:
        super().__init__(control, identity)
        self.check_identity("photomaker", identity)
        self.gate = NoiseGate(backbone, noise_gate)
        self.frozen_control = FrozenControl("photomaker", backbone, control, controlnet)
        # Not saved with a run, since it follows from the backbone.
        self.register_buffer("class_word", _last_word(backbone, class_prompt), persistent=False)
        # Layers that fuse a token with the class word.
        dim = backbone.text_dim
        self.join = nn.Sequential(
            nn.LayerNorm(2 * dim), nn.Linear(2 * dim, dim), nn.GELU(), nn.Linear(dim, dim)
        )
        self.refine = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim)
        )
        self.norm = nn.LayerNorm(dim)
        # Low-rank updates of all attentions.
        self.low_rank = nn.ModuleList()
        processors = backbone.unet.attn_processors
        for name, own in processors.items():
            attention = backbone.unet.get_submodule(name.removesuffix(".processor"))
            weights = LowRankWeights(attention, rank)
            self.low_rank.append(weights)
            processors[name] = LowRankAttention(own, weights)
        backbone.unet.set_attn_processor(processors)

    def forward(self, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Injection:
        """Inject the stacked ID embedding, and residuals of the control image."""
        drawn = self.frozen_control(noisy, timesteps, condition)
        tokens = condition.tokens
        stacked = None if tokens is None else self.stacked(tokens)
        return replace(drawn, attention=stacked, gate=self.gate(timesteps))

    def stacked(self, tokens: IdentityTokens) -> IdentityTokens:
        """Compute the stacked ID embedding [B, N·T, d] of image embeddings [B, N·T, d]."""
        word = self.class_word.expand_as(tokens.tokens)
        fused = word + self.join(torch.cat([word, tokens.tokens], dim=-1))
        return replace(tokens, tokens=self.norm(fused + self.refine(fused)))

    def starting_at_zero(self) -> list[nn.Parameter]:
        """Return the output matrices of all low-rank updates."""
        return [parameter for name, parameter in self.low_rank.named_parameters() if ".up." in name]


def _last_word(backbone: Backbone, prompt: str) -> Tensor:
    """Encode a prompt's last word as a text embedding [d], at its position in the prompt."""
    without = prompt.rpartition(" ")[0]
    whole, shorter = backbone.tokenizer([prompt, without])
    place = int((whole != shorter).nonzero()[0])
    return backbone.encode_text([prompt]).words[0, place]
