"""Low-rank updates of a frozen attention's weights (Hu et al., LoRA, ICLR 2022)."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn
from torch.nn import functional

from portraitlab.method.net.attention import attended, gated
from portraitlab.types import IdentityTokens, Injection


class LowRankLinear(nn.Module):
    """The update B A of a linear map's weights, of rank `rank`; B starts at zero.

    Raises ValueError for a rank below 1.
    """

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError(f"net.rank is {rank}; it must be 1 or more.")
        self.down = nn.Linear(linear.in_features, rank, bias=False)
        self.up = nn.Linear(rank, linear.out_features, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, features: Tensor) -> Tensor:
        """Compute the addition [..., out] to the linear map of features [..., in]."""
        return self.up(self.down(features))


class LowRankWeights(nn.Module):
    """Low-rank updates of the four linear maps of one attention."""

    def __init__(self, attention: Attention, rank: int) -> None:
        super().__init__()
        self.query = LowRankLinear(attention.to_q, rank)
        self.key = LowRankLinear(attention.to_k, rank)
        self.value = LowRankLinear(attention.to_v, rank)
        self.out = LowRankLinear(attention.to_out[0], rank)


class LowRankAttention:
    """Attention with updated weights over text and identity tokens.

    Where no identity tokens are injected the result is that of the original processor, `own`, to
    the bit; the injection's gate weighs the difference from it. weights are parameters of the net
    that makes this processor, not of the backbone.
    """

    def __init__(self, own: Any, weights: LowRankWeights) -> None:
        self.own = own
        self.weights = weights

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        ip_hidden_states: Injection | None = None,
    ) -> Tensor:
        """Attend from hidden_states [B, h·w, C] to text [B, K, dt] and injected tokens.

        In self-attention there is no text, and hidden_states attend to themselves.
        """
        own = self.own(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        if ip_hidden_states is None:
            return own
        assert attention_mask is None, "the backbone masks no text"
        # Append the identity tokens to the text.
        read, mask = hidden_states, None
        if encoder_hidden_states is not None:
            tokens = ip_hidden_states.attention
            assert isinstance(tokens, IdentityTokens)
            read = torch.cat([encoder_hidden_states, tokens.tokens], dim=1)
            text = encoder_hidden_states.shape[1]
            mask = functional.pad(tokens.mask, (text, 0), value=True)
        # Attend with the updated weights.
        out = attended(
            attn.to_q(hidden_states) + self.weights.query(hidden_states),
            attn.to_k(read) + self.weights.key(read),
            attn.to_v(read) + self.weights.value(read),
            attn.heads,
            mask,
        )
        changed = attn.to_out[1](attn.to_out[0](out) + self.weights.out(out))
        return own + gated(changed - own, ip_hidden_states.gate)
