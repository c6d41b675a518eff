"""The resampler against its description, written out slowly."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from steering import attend
from torch import Tensor, nn
from torch.nn import functional

from portraitlab.method.fusion.resampler import ResamplerFusion
from portraitlab.types import FaceFeatures

D1, D2, DIM = 10, 12, 16


def build(**settings: object) -> ResamplerFusion:
    torch.manual_seed(0)
    fusion = ResamplerFusion(D1, D2, DIM, **{"layers": 2, "heads": 2, **settings})
    for module in fusion.modules():
        if isinstance(module, nn.LayerNorm):  # neither ones nor zeros, as after training
            nn.init.normal_(module.weight, mean=1.0, std=0.2)
            nn.init.normal_(module.bias, std=0.2)
    return fusion


def attention(module: nn.MultiheadAttention, query: Tensor, context: Tensor) -> Tensor:
    """Multi-head attention of one query [d] over a context [L, d]."""
    to_query, to_key, to_value = module.in_proj_weight.chunk(3)
    for_query, for_key, for_value = module.in_proj_bias.chunk(3)
    keys = torch.stack([to_key @ token + for_key for token in context])
    values = torch.stack([to_value @ token + for_value for token in context])
    return module.out_proj(attend(to_query @ query + for_query, keys, values, module.num_heads))


def resample_one(fusion: ResamplerFusion, clip: Tensor, embedding: Tensor) -> Tensor:
    """Resample CLIP's tokens [L, d1] and an embedding [d2] to tokens [T, d], query by query."""
    phi, psi = fusion.clip_projection, fusion.id_projection
    read = [phi.weight @ token + phi.bias for token in clip]
    read.append(psi.weight @ (embedding * D2**0.5) + psi.bias)
    queries = list(fusion.queries)
    for block in fusion.blocks:
        normalised = [block.norm_queries(query) for query in queries]
        context = torch.stack([block.norm_read(token) for token in read] + normalised)
        _, wide, _, narrow = block.feed_forward
        updated = []
        for query, own in zip(queries, normalised, strict=True):
            query = query + attention(block.attention, own, context)
            hidden = functional.gelu(wide.weight @ block.feed_forward[0](query) + wide.bias)
            updated.append(query + narrow.weight @ hidden + narrow.bias)
        queries = updated
    return torch.stack([fusion.norm(query) for query in queries])


@pytest.mark.parametrize("patches", [False, True])
def test_it_agrees_with_a_resampler_written_out_slowly(tiny_batch, patches: bool) -> None:
    fusion = build(tokens=3, patches=patches)
    features = tiny_batch(batch=2, refs=2).references
    assert not features.mask.all()
    fast = fusion(features).tokens.unflatten(1, (2, 3))
    for sample, reference in features.mask.nonzero().tolist():
        local = features.local_[sample, reference]
        slow = resample_one(
            fusion, local if patches else local[:1], features.global_[sample, reference]
        )
        torch.testing.assert_close(fast[sample, reference], slow, atol=1e-5, rtol=1e-4)
    assert not fast[~features.mask].any()


def test_only_the_class_token_is_read_without_patches(tiny_batch) -> None:
    features = tiny_batch().references
    others = features.local_.clone()
    others[:, :, 1:] += 1
    disturbed = replace(features, local_=others)
    for patches in (False, True):
        fusion = build(patches=patches)
        same = torch.equal(fusion(features).tokens, fusion(disturbed).tokens)
        assert same is not patches


def test_each_reference_is_resampled_by_itself(tiny_batch) -> None:
    fusion, features = build(), tiny_batch().references
    apart = fusion(features).tokens.unflatten(1, (4, -1))
    for sample, reference in features.mask.nonzero().tolist():
        alone = FaceFeatures(
            features.local_[sample, reference][None, None],
            features.global_[sample, reference][None, None],
            torch.ones(1, 1, dtype=torch.bool),
        )
        torch.testing.assert_close(
            fusion(alone).tokens[0], apart[sample, reference], atol=1e-5, rtol=1e-4
        )


def test_a_masked_reference_has_no_influence_whatever_it_is(tiny_batch) -> None:
    fusion, features = build(), tiny_batch().references
    hidden = ~features.mask
    disturbed = replace(
        features,
        local_=features.local_.masked_fill(hidden[..., None, None], float("nan")),
        global_=features.global_.masked_fill(hidden[..., None], float("inf")),
    )
    before, after = fusion(features), fusion(disturbed)
    assert torch.equal(after.tokens, before.tokens)
    assert torch.equal(after.mask, before.mask)
    nobody = fusion(replace(features, mask=torch.zeros_like(features.mask)))
    assert not nobody.tokens.any()
    assert not nobody.mask.any()


def test_tokens_have_the_magnitude_of_a_norm_at_any_scale_of_the_input(tiny_batch) -> None:
    fusion, features = build(), tiny_batch().references
    loud = replace(features, local_=100 * features.local_)
    for given in (features, loud):
        known = fusion(given).tokens.unflatten(1, (4, -1))[features.mask]
        assert 0.5 < known.square().mean().sqrt() < 2


def test_numbers_that_make_no_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match=r"fusion.heads=3 does not divide.*16; choose a divisor"):
        build(heads=3)
    with pytest.raises(ValueError, match=r"fusion\.tokens=0: a whole number from 1 is needed"):
        build(tokens=0)
