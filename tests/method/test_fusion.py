from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from portraitlab.faces.alignment import TEMPLATE
from portraitlab.method.fusion.base import Fusion
from portraitlab.method.fusion.class_token import ClassTokenFusion
from portraitlab.method.fusion.concat import ConcatFusion
from portraitlab.method.fusion.embedding import EmbeddingFusion
from portraitlab.method.fusion.facial_parts import FacialPartsFusion, cells_of_parts
from portraitlab.method.fusion.global_ import GlobalFusion
from portraitlab.method.fusion.local import LocalFusion
from portraitlab.method.fusion.mean_embedding import MeanEmbeddingFusion
from portraitlab.method.fusion.mixer import FacialAttributeMixer
from portraitlab.method.fusion.mlp import MLPFusion
from portraitlab.method.fusion.none import NoFusion
from portraitlab.method.fusion.refiner import FaceRefiner
from portraitlab.method.fusion.resampler import ResamplerFusion
from portraitlab.types import FaceFeatures, IdentityTokens

D1, D2, LENGTH, DIM = 10, 12, 5, 16
TOKENS = {
    LocalFusion: LENGTH,
    GlobalFusion: 1,
    ConcatFusion: 1 + LENGTH,
    MLPFusion: 1 + LENGTH,
    FaceRefiner: 33,
    FacialAttributeMixer: 16,
    EmbeddingFusion: 4,
    ClassTokenFusion: 1,
    FacialPartsFusion: 4 + 5,
    ResamplerFusion: 4,
}
every_fusion = pytest.mark.parametrize("kind", list(TOKENS))


def build(kind: type[Fusion]) -> Fusion:
    torch.manual_seed(0)
    return kind(local_dim=D1, global_dim=D2, dim=DIM)


def run(fusion: Fusion, features: FaceFeatures) -> IdentityTokens:
    tokens = fusion(features)
    assert tokens is not None
    return tokens


@every_fusion
def test_shapes_and_mask(kind, tiny_batch) -> None:
    features = tiny_batch().references
    tokens = run(build(kind), features)
    assert tokens.tokens.shape == (3, 4 * TOKENS[kind], DIM)
    assert torch.equal(tokens.mask.view(3, 4, -1).all(-1), features.mask)
    assert torch.equal(tokens.mask.view(3, 4, -1).any(-1), features.mask)


@every_fusion
def test_masked_references_have_no_influence(kind, tiny_batch) -> None:
    features = tiny_batch().references
    hidden = ~features.mask
    disturbed = replace(
        features,
        local_=features.local_ + 1e3 * hidden[..., None, None],
        global_=features.global_ - 1e3 * hidden[..., None],
    )
    fusion = build(kind)
    before, after = run(fusion, features), run(fusion, disturbed)
    assert not torch.equal(features.local_, disturbed.local_)
    assert torch.equal(before.tokens, after.tokens)


@every_fusion
def test_permuting_references_only_permutes_their_tokens(kind, tiny_batch) -> None:
    features = tiny_batch().references
    order = [2, 0, 3, 1]
    permuted = FaceFeatures(
        features.local_[:, order], features.global_[:, order], features.mask[:, order]
    )
    fusion = build(kind)
    before = run(fusion, features).tokens.unflatten(1, (4, -1))
    after = run(fusion, permuted).tokens.unflatten(1, (4, -1))
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, before[:, order], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", [*TOKENS, MeanEmbeddingFusion])
def test_gradients_reach_every_weight(kind, tiny_batch) -> None:
    fusion = build(kind)
    tokens = run(fusion, tiny_batch().references).tokens
    # Their mean square alone would not do: a norm at the end holds it where it is.
    aim = torch.randn(tokens.shape, generator=torch.Generator().manual_seed(1))
    (tokens - aim).square().sum().backward()
    for name, parameter in fusion.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_none_gives_nothing_and_trains_nothing(tiny_batch) -> None:
    fusion = build(NoFusion)
    assert fusion(tiny_batch().references) is None
    assert not fusion.gives_tokens
    assert not list(fusion.parameters())


def test_a_width_that_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match=r"fusion.heads=3 does not divide.*16; choose a divisor"):
        FaceRefiner(D1, D2, DIM, heads=3)


def attend(module: nn.MultiheadAttention, query: Tensor, memory: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(d_k)) V, head by head, token by token."""
    weights = module.in_proj_weight.chunk(3)
    biases = module.in_proj_bias.chunk(3)
    q, k, v = (
        inputs @ weight.T + bias
        for inputs, weight, bias in zip((query, memory, memory), weights, biases, strict=True)
    )
    width = q.shape[-1] // module.num_heads
    rows = []
    for token in range(len(q)):
        heads = []
        for head in range(module.num_heads):
            part = slice(head * width, (head + 1) * width)
            scores = torch.stack([q[token, part] @ key[part] for key in k]) / width**0.5
            shares = scores.exp() / scores.exp().sum()
            heads.append(sum(share * value[part] for share, value in zip(shares, v, strict=True)))
        rows.append(module.out_proj(torch.cat(heads)))
    return torch.stack(rows)


def refine_one(refiner: FaceRefiner, local: Tensor, global_: Tensor) -> Tensor:
    """Compute eqs. 2-4 for one reference as the paper and Vaswani et al. (2017) write them."""
    phi_1, phi_2 = refiner.global_projection, refiner.local_projection
    global_token = (global_ * D2**0.5) @ phi_1.weight.T + phi_1.bias
    local_tokens = torch.stack([phi_2.weight @ token + phi_2.bias for token in local])
    query = torch.cat([global_token[None], refiner.learnable])
    key_value = torch.cat([global_token[None], local_tokens])
    for layer in refiner.decoder.layers:
        query = layer.norm1(query + attend(layer.self_attn, query, query))
        query = layer.norm2(query + attend(layer.multihead_attn, query, key_value))
        query = layer.norm3(query + layer.linear2(torch.relu(layer.linear1(query))))
    return query


def test_refiner_agrees_with_the_paper_written_out_slowly(tiny_batch) -> None:
    torch.manual_seed(0)
    refiner = FaceRefiner(D1, D2, DIM, learnable_tokens=3, layers=2, heads=2)
    features = tiny_batch(batch=2, refs=2).references
    fast = run(refiner, features).tokens.unflatten(1, (2, 4))
    for sample, reference in features.mask.nonzero().tolist():
        local, global_ = features.local_[sample, reference], features.global_[sample, reference]
        slow = refine_one(refiner, local, global_)
        torch.testing.assert_close(fast[sample, reference], slow, atol=1e-5, rtol=1e-4)


def mix_one(mixer: FacialAttributeMixer, local: Tensor, global_: Tensor) -> Tensor:
    """Eqs. 1 and 2 of FaceSnap for one reference, written as the paper writes them."""
    w_id, w_clip = mixer.id_projection[0], mixer.clip_projection
    id_tokens = ((global_ * D2**0.5) @ w_id.weight.T + w_id.bias).view(-1, DIM)
    clip_tokens = torch.stack([w_clip.weight @ token + w_clip.bias for token in local])
    fused = id_tokens + attend(mixer.attention, id_tokens, torch.cat([id_tokens, clip_tokens]))
    fused = mixer.norm(fused)
    query = mixer.queries
    for layer in mixer.decoder.layers:
        query = layer.norm1(query + attend(layer.self_attn, query, query))
        query = layer.norm2(query + attend(layer.multihead_attn, query, fused))
        query = layer.norm3(query + layer.linear2(torch.relu(layer.linear1(query))))
    return query


def test_mixer_agrees_with_the_paper_written_out_slowly(tiny_batch) -> None:
    torch.manual_seed(0)
    mixer = FacialAttributeMixer(D1, D2, DIM, id_tokens=3, learnable_tokens=5, layers=2, heads=2)
    features = tiny_batch(batch=2, refs=2).references
    fast = run(mixer, features).tokens.unflatten(1, (2, 5))
    for sample, reference in features.mask.nonzero().tolist():
        local, global_ = features.local_[sample, reference], features.global_[sample, reference]
        slow = mix_one(mixer, local, global_)
        torch.testing.assert_close(fast[sample, reference], slow, atol=1e-5, rtol=1e-4)


def test_a_new_mixer_tells_people_apart_as_the_refiner_does(tiny_batch) -> None:
    torch.manual_seed(0)
    sizes = {"local_dim": 16, "global_dim": 16, "dim": 64}
    features = FaceFeatures(
        torch.randn(64, 1, 9, 16),
        nn.functional.normalize(torch.randn(64, 1, 16), dim=-1),
        torch.ones(64, 1, dtype=torch.bool),
    )
    mixer, refiner = (
        run(fusion(**sizes, heads=4), features).tokens.std(dim=0).mean()
        for fusion in (FacialAttributeMixer, FaceRefiner)
    )
    assert mixer > 0.5 * refiner


def test_mixer_refuses_counts_and_heads_that_make_no_tokens() -> None:
    with pytest.raises(ValueError, match=r"fusion.heads=3 does not divide.*16; choose a divisor"):
        FacialAttributeMixer(D1, D2, DIM, heads=3)
    with pytest.raises(ValueError, match=r"fusion\.id_tokens=0: a whole number from 1 is"):
        FacialAttributeMixer(D1, D2, DIM, id_tokens=0)


def test_the_mean_embedding_is_one_face_for_all_references(tiny_batch) -> None:
    features, fusion = tiny_batch().references, build(MeanEmbeddingFusion)
    tokens = run(fusion, features)
    assert tokens.tokens.shape == (3, 16, DIM)
    assert tokens.mask.all()
    order = [2, 0, 3, 1]
    permuted = replace(features, global_=features.global_[:, order], mask=features.mask[:, order])
    torch.testing.assert_close(run(fusion, permuted).tokens, tokens.tokens, atol=1e-6, rtol=1e-5)
    hidden = ~features.mask[..., None]
    disturbed = replace(features, global_=features.global_ + 1e3 * hidden)
    assert torch.equal(run(fusion, disturbed).tokens, tokens.tokens)
    for sample, mask in enumerate(features.mask):
        mean = features.global_[sample, mask].mean(0)
        alone = FaceFeatures(
            features.local_[:1, :1], (mean / mean.norm()).view(1, 1, -1), torch.tensor([[True]])
        )
        slow = run(fusion.embedding, alone).tokens[0]
        torch.testing.assert_close(tokens.tokens[sample], slow, atol=1e-6, rtol=1e-5)


def test_the_class_token_is_the_first_of_the_local_features(tiny_batch) -> None:
    features, fusion = tiny_batch().references, build(ClassTokenFusion)
    others = features.local_.clone()
    others[:, :, 1:] += 1
    same = run(fusion, replace(features, local_=others, global_=-features.global_))
    assert torch.equal(same.tokens, run(fusion, features).tokens)


def test_no_token_is_refused() -> None:
    with pytest.raises(ValueError, match=r"fusion\.tokens=0: a whole number from 1 is needed"):
        EmbeddingFusion(D1, D2, DIM, tokens=0)


def test_parts_of_a_face_lie_where_alignment_puts_them() -> None:
    eyes, nose, mouth, ears, face = cells_of_parts(64).view(5, 8, 8)
    for part, points in ((eyes, TEMPLATE[:2]), (nose, TEMPLATE[2:3]), (mouth, TEMPLATE[3:])):
        for x, y in (8 * points).long().tolist():
            assert part[y, x]
    assert face.all()
    parts = torch.stack([eyes, nose, mouth, ears])
    assert int(parts.flatten(1).sum(1).min()) >= 4
    assert int(parts.flatten(1).sum(1).max()) <= 16
    # An ear is beyond its eye, and the mouth is below all else.
    columns = torch.arange(8.0)
    assert (columns * ears.any(0)).max() > (columns * eyes.any(0)).max()
    assert (
        mouth.any(1).nonzero().max() > torch.stack([eyes, nose, ears]).any(0).any(1).nonzero().max()
    )
    assert not (eyes & mouth).any()


def test_patch_tokens_that_are_no_square_have_no_parts(tiny_batch) -> None:
    features = tiny_batch(dims=(D1, D2, 7)).references
    with pytest.raises(ValueError, match=r"6 patch tokens beside its class token.*fusion=concat"):
        build(FacialPartsFusion)(features)
    with pytest.raises(ValueError, match=r"fusion.heads=3 does not divide.*16; choose a divisor"):
        FacialPartsFusion(D1, D2, DIM, heads=3)


def test_a_part_looks_at_its_own_cells_alone(tiny_batch) -> None:
    torch.manual_seed(0)
    fusion = FacialPartsFusion(D1, D2, DIM, tokens=2, heads=2)
    features = tiny_batch(batch=2, refs=2, dims=(D1, D2, 1 + 16)).references
    fast = run(fusion, features).tokens.unflatten(1, (2, 2 + 5))
    norm, first, _, second = fusion.perceptron
    cells = cells_of_parts(16)
    for sample, reference in features.mask.nonzero().tolist():
        patches = fusion.local_projection(features.local_[sample, reference, 1:])
        for part, query in enumerate(fusion.queries):
            seen = patches[cells[part]]
            token = query + attend(fusion.attention, query[None], seen)[0]
            wide = first.weight @ norm(token) + first.bias
            token = token + second.weight @ torch.nn.functional.gelu(wide) + second.bias
            torch.testing.assert_close(
                fast[sample, reference, 2 + part], fusion.norm(token), atol=1e-5, rtol=1e-4
            )
