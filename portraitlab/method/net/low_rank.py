"""Low-rank updates of a frozen attention's weights (Hu et al., LoRA, ICLR 2022)."""

from __future__ import annotations

from typing import Any

from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from portraitlab.method.net.attention import AppendedAttention, attended
from portraitlab.support.checks import check_whole


class LowRankLinear(nn.Module):
    """The update B A of a linear map's weights, of rank `rank`; B starts at zero.

    Raises ValueError for a rank below 1.
    """

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__()
        check_whole("net.rank", rank)
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


class LowRankAttention(AppendedAttention):
    """Attention with updated weights over text and appended identity tokens.

    Where no identity tokens are injected the result is that of the original processor, `own`, to
    the bit. weights are parameters of the net that makes this processor, not of the backbone.
    """

    def __init__(self, own: Any, weights: LowRankWeights) -> None:
        super().__init__(own)
        self.weights = weights

    def attend(
        self, attn: Attention, hidden_states: Tensor, read: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Attend with the updated weights."""
        out = attended(
            attn.to_q(hidden_states) + self.weights.query(hidden_states),
            attn.to_k(read) + self.weights.key(read),
            attn.to_v(read) + self.weights.value(read),
            attn.heads,
            mask,
        )
        return attn.to_out[1](attn.to_out[0](out) + self.weights.out(out))
