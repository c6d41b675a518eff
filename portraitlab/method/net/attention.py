"""Attention processors for diffusers' UNet blocks that read masked identity tokens.

They are given an Injection (Backbone.predict) or a BranchInput (ControlBranch) under the name
ip_hidden_states of cross_attention_kwargs. diffusers passes it to every attention and drops it
silently where a processor does not have such a parameter (self-attention).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor, nn
from torch.nn import functional

from portraitlab.types import IdentityTokens, Injection, Regions


@dataclass
class BranchInput:
    """The input of a branch's cross-attentions.

    tokens: read by all of them. attended: outputs [B, h'·w', C] for the identity tokens, to which
    every cross-attention appends its own.
    """

    tokens: IdentityTokens
    attended: list[Tensor] = field(default_factory=list)


class MaskedCrossAttention(AttnProcessor2_0):
    """diffusers' attention over partly masked identity tokens (HiFi-Portrait, eq. 5).

    ControlNetModel passes no mask to its cross-attention. Where no token acts, as outside all
    regions, the output is zero.
    """

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        ip_hidden_states: BranchInput | None = None,
    ) -> Tensor:
        """Attend to encoder_hidden_states [B, K, d], the input's tokens, where they act."""
        given = (attn, hidden_states, encoder_hidden_states)
        if ip_hidden_states is None:
            return super().__call__(*given, attention_mask, temb)
        acts, some = safe_mask(ip_hidden_states.tokens, hidden_states.shape[1])
        out = super().__call__(*given, acts.repeat_interleave(attn.heads, dim=0), temb)
        out = out if some is None else out * some
        ip_hidden_states.attended.append(out)
        return out


class AddedCrossAttention(AttnProcessor2_0):
    """The attention to the prompt plus the attention to identity tokens (FPGA, eq. 1).

    Both are the same operation with the same weights, as eq. 1 writes it. Where no token acts, the
    second is zero.
    """

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        ip_hidden_states: BranchInput | None = None,
    ) -> Tensor:
        """Attend to the prompt's features [B, K, d], and to the input's tokens where they act."""
        out = super().__call__(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        if ip_hidden_states is None:
            return out
        read = ip_hidden_states.tokens.tokens
        acts, some = safe_mask(ip_hidden_states.tokens, hidden_states.shape[1])
        mask = acts.repeat_interleave(attn.heads, dim=0)
        added = super().__call__(attn, hidden_states, read, mask, temb)
        added = added if some is None else added * some
        ip_hidden_states.attended.append(added)
        return out + added


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
            acts, some = safe_mask(tokens, query.shape[1])
            added = attended(query, key, value, attn.heads, acts)
            added = added if some is None else added * some
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
            # The text acts everywhere, so no query is left without a token.
            read, mask = appended.tokens, acting(appended, hidden_states.shape[1])
        changed = self.attend(attn, hidden_states, read, mask)
        return changed if own is None else own + gated(changed - own, gate)

    def attend(
        self, attn: Attention, hidden_states: Tensor, read: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Attend from hidden_states [B, h·w, C] to `read` [B, K, ...] where the mask is True.

        mask bool [B, 1, K] or [B, h·w, K]; None masks nothing.
        """
        key, value = attn.to_k(read), attn.to_v(read)
        out = attended(attn.to_q(hidden_states), key, value, attn.heads, mask)
        return attn.to_out[1](attn.to_out[0](out))


def attended(
    query: Tensor, key: Tensor, value: Tensor, heads: int, mask: Tensor | None = None
) -> Tensor:
    """Compute softmax(Q K^T) V by heads: [B, Q, C] of query [B, Q, C], key and value [B, K, C].

    mask bool [B, 1, K] or [B, Q, K]: False where a key is masked for all queries or for one; None
    masks nothing.
    """

    def split(features: Tensor) -> Tensor:
        return features.unflatten(-1, (heads, -1)).transpose(1, 2)

    known = None if mask is None else mask[:, None]
    out = functional.scaled_dot_product_attention(
        split(query), split(key), split(value), attn_mask=known
    )
    return out.transpose(1, 2).flatten(-2)


def gated(added: Tensor, gate: Tensor | None) -> Tensor:
    """Multiply an attention's addition [B, ...] by an injection's gate [B]; None is 1."""
    return added if gate is None else gate.view(-1, *[1] * (added.ndim - 1)) * added


def acting(tokens: IdentityTokens, queries: int) -> Tensor:
    """Compute where tokens may be attended to: bool [B, 1, K], or with regions [B, Q, K].

    queries: number Q of latent cells at the attention's resolution.
    """
    known = tokens.mask[:, None]
    regions = tokens.regions
    if regions is None:
        return known
    if queries not in regions.masks:
        regions.masks[queries] = _inside(regions, queries)
    return known & regions.masks[queries]


def safe_mask(tokens: IdentityTokens, queries: int) -> tuple[Tensor, Tensor | None]:
    """Compute a mask that leaves every query a token, and where the result counts.

    The softmax over nothing has no value, so a query without a token attends to all of them, and
    its result is to be multiplied by the second, bool [B, Q, 1]; None where there are no regions.
    """
    acts = acting(tokens, queries)
    if tokens.regions is None:
        return acts, None
    some = acts.any(dim=-1, keepdim=True)
    return acts | ~some, some


def _inside(regions: Regions, queries: int) -> Tensor:
    """Compute bool [B, Q, K] where a query's cell is in the region of a token's owner.

    A cell of a coarser resolution is in the region that covers most of it.
    """
    areas, owner = regions.areas.float(), regions.owner
    size = resolution(areas.shape[-2], areas.shape[-1], queries)
    covered = functional.adaptive_avg_pool2d(areas, size).flatten(2)
    inside = (covered > 0) & (covered == covered.amax(dim=1, keepdim=True))
    chosen = inside.gather(1, owner.clamp(min=0)[..., None].expand(-1, -1, queries))
    return (chosen | (owner < 0)[..., None]).transpose(1, 2)


def resolution(height: int, width: int, queries: int) -> tuple[int, int]:
    """Return height and width of an attention with `queries` cells over latents of a size."""
    factor = 1
    while (size := (-(-height // factor), -(-width // factor)))[0] * size[1] > queries:
        factor *= 2
    assert size[0] * size[1] == queries, "each downsampling of a UNet halves the latents"
    return size
