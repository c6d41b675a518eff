"""Attention processors for diffusers' UNet blocks that read masked identity tokens.

They are given an Injection (Backbone.predict) or a mask under two names of cross_attention_kwargs.
diffusers passes both to every attention and drops them silently where a processor does not have
such a parameter (self-attention).
"""

from __future__ import annotations

from typing import Any

from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn
from torch.nn import functional

from portraitlab.types import IdentityTokens, Injection


class MaskedCrossAttention(AttnProcessor2_0):
    """diffusers' attention over partly masked identity tokens (eq. 5).

    ControlNetModel passes no mask to its cross-attention.
    """

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        ip_adapter_masks: Tensor | None = None,
    ) -> Tensor:
        """Attend where ip_adapter_masks [B, N·T] is True among encoder_hidden_states."""
        if ip_adapter_masks is not None:
            attention_mask = ip_adapter_masks[:, None].repeat_interleave(attn.heads, dim=0)
        return super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, temb)


class DecoupledCrossAttention:
    """IP-Adapter's decoupled cross-attention: text and identity tokens, each with its own keys.

    Ye et al. (2023), eq. 5: softmax(Q K^T) V + scale · softmax(Q K'^T) V', with the scale
    multiplied by the injection's gate. to_key and to_value map identity tokens to K' and V'; they
    are parameters of the net that makes this processor, not of the backbone.
    """

    def __init__(self, to_key: nn.Linear, to_value: nn.Linear, scale: float) -> None:
        self.to_key = to_key
        self.to_value = to_value
        self.scale = scale

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        ip_hidden_states: Injection | None = None,
    ) -> Tensor:
        """Attend from hidden_states [B, h·w, C] to text [B, K, dt] and injected tokens."""
        assert attention_mask is None, "the backbone masks no text"
        query = attn.to_q(hidden_states)
        text = encoder_hidden_states
        out = attended(query, attn.to_k(text), attn.to_v(text), attn.heads)
        if ip_hidden_states is not None:
            tokens = ip_hidden_states.attention
            assert isinstance(tokens, IdentityTokens)
            key, value = self.to_key(tokens.tokens), self.to_value(tokens.tokens)
            added = attended(query, key, value, attn.heads, tokens.mask)
            out = out + self.scale * gated(added, ip_hidden_states.gate)
        return attn.to_out[1](attn.to_out[0](out))


class AppendedAttention:
    """Attention over the text and the identity tokens appended to it, with the same weights.

    Where no identity tokens are injected the result is that of the original processor, `own`, to
    the bit. The injection's gate weighs the difference from it; without a gate `own` is not
    computed.
    """

    def __init__(self, own: Any) -> None:
        self.own = own

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
        given = (attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        if ip_hidden_states is None:
            return self.own(*given)
        assert attention_mask is None, "the backbone masks no text"
        gate = ip_hidden_states.gate
        own = None if gate is None else self.own(*given)
        # Append the identity tokens to the text.
        read, mask = hidden_states, None
        if encoder_hidden_states is not None:
            tokens = ip_hidden_states.attention
            assert isinstance(tokens, IdentityTokens)
            appended = tokens.after(encoder_hidden_states)
            read, mask = appended.tokens, appended.mask
        changed = self.attend(attn, hidden_states, read, mask)
        return changed if own is None else own + gated(changed - own, gate)

    def attend(
        self, attn: Attention, hidden_states: Tensor, read: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Attend from hidden_states [B, h·w, C] to `read` [B, K, ...] where mask [B, K] is True."""
        key, value = attn.to_k(read), attn.to_v(read)
        out = attended(attn.to_q(hidden_states), key, value, attn.heads, mask)
        return attn.to_out[1](attn.to_out[0](out))


def attended(
    query: Tensor, key: Tensor, value: Tensor, heads: int, mask: Tensor | None = None
) -> Tensor:
    """Compute softmax(Q K^T) V by heads: [B, Q, C] of query [B, Q, C], key and value [B, K, C].

    mask bool [B, K]: False where a key is masked for all queries; None masks nothing.
    """

    def split(features: Tensor) -> Tensor:
        return features.unflatten(-1, (heads, -1)).transpose(1, 2)

    known = None if mask is None else mask[:, None, None]
    out = functional.scaled_dot_product_attention(
        split(query), split(key), split(value), attn_mask=known
    )
    return out.transpose(1, 2).flatten(-2)


def gated(added: Tensor, gate: Tensor | None) -> Tensor:
    """Multiply an attention's addition [B, ...] by an injection's gate [B]; None is 1."""
    return added if gate is None else gate.view(-1, *[1] * (added.ndim - 1)) * added
