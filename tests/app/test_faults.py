"""Planted faults: each changes only the fields that its name says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import pytest
import torch

from portraitlab.app.task.faults import (
    Blurred,
    OneWrong,
    ShuffledTokens,
    WrongExpression,
    WrongPerson,
    blur,
    next_identity,
)
from portraitlab.data.testset import ScoringSet
from portraitlab.method.cond.none import NoCond
from portraitlab.method.fusion.local import LocalFusion
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.none import NoNet
from portraitlab.method.select.random import RandomReference
from portraitlab.types import Batch, IdentityTokens, TensorRecord


@pytest.fixture
def held_out(world_data, frozen):
    return world_data(score_identities=3).score_photos(frozen)


@pytest.fixture
def batch_and_samples(held_out):
    """Two samples of each of three identities, with three references and their latents."""
    photos = replace(held_out, reference_latents=True)
    scoring = ScoringSet(photos, 3, RandomReference(), targets=1, judges=1, noise_seeds=2)
    return next(scoring.batches(6))


def changed(before: Batch, after: Batch) -> set[str]:
    """Name the fields that are not bitwise equal."""

    def same(one: object, other: object) -> bool:
        if isinstance(one, TensorRecord):
            return all(same(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
        return torch.equal(one, other) if isinstance(one, torch.Tensor) else one is other

    names = [field.name for field in fields(before)]
    return {name for name in names if not same(getattr(before, name), getattr(after, name))}


def test_the_next_identity_is_another_for_every_sample(batch_and_samples) -> None:
    _, samples = batch_and_samples
    following = next_identity(samples).tolist()
    assert following == [2, 2, 4, 4, 0, 0]
    with pytest.raises(ValueError, match=r"all 2 samples .* raise scale.score_batch_size"):
        next_identity(samples[:2])


def test_wrong_person_takes_all_references_of_another(batch_and_samples, held_out, frozen) -> None:
    batch, samples = batch_and_samples
    faulty = WrongPerson(("sim_f",)).change(batch, samples, held_out, frozen)
    assert changed(batch, faulty) == {"references"}
    assert torch.equal(faulty.references.global_, batch.references.global_[[2, 2, 4, 4, 0, 0]])


def test_one_wrong_reference_leaves_the_others(batch_and_samples, held_out, frozen) -> None:
    batch, samples = batch_and_samples
    faulty = OneWrong(("sim_f",)).change(batch, samples, held_out, frozen)
    assert changed(batch, faulty) == {"references"}
    for before, after in zip(
        (batch.references.local_, batch.references.global_, batch.references.latents),
        (faulty.references.local_, faulty.references.global_, faulty.references.latents),
        strict=True,
    ):
        assert torch.equal(after[:, 1:], before[:, 1:])
        assert torch.equal(after[:, 0], before[[2, 2, 4, 4, 0, 0], 0])


def test_blurred_references_are_encoded_again(batch_and_samples, held_out, frozen) -> None:
    batch, samples = batch_and_samples
    sharp = Blurred(("sim_f",), deviation=1e-3).change(batch, samples, held_out, frozen)
    torch.testing.assert_close(
        sharp.references.global_, batch.references.global_, atol=1e-4, rtol=1e-3
    )
    faulty = Blurred(("sim_f",)).change(batch, samples, held_out, frozen)
    assert changed(batch, faulty) == {"references"}
    assert faulty.references.local_.shape == batch.references.local_.shape
    for name in ("local_", "latents"):
        before, barely, after = (getattr(each.references, name) for each in (batch, sharp, faulty))
        assert (after - before).abs().mean() > 3 * (barely - before).abs().mean()


def test_references_without_latents_stay_without(held_out, frozen) -> None:
    scoring = ScoringSet(held_out, 3, RandomReference(), targets=1, judges=1, noise_seeds=2)
    batch, samples = next(scoring.batches(6))
    for fault in (WrongPerson, OneWrong, Blurred):
        faulty = fault(("sim_f",)).change(batch, samples, held_out, frozen)
        assert faulty.references.latents is None


def test_blur_keeps_flat_areas_and_softens_edges() -> None:
    image = torch.ones(1, 3, 32, 32)
    torch.testing.assert_close(blur(image, 0.05), image)
    image[..., 16:] = -1
    soft = blur(image, 0.05)
    assert soft.diff(dim=-1).abs().max() < 0.6
    torch.testing.assert_close(soft.mean(), image.mean(), atol=0.02, rtol=0)


def test_a_wrong_expression_keeps_pose_and_shape(batch_and_samples, held_out, frozen) -> None:
    batch, samples = batch_and_samples
    fault = WrongExpression(("exp",))
    faulty = fault.change(batch, samples, held_out, frozen)
    assert changed(batch, faulty) == {"target_geometry"}
    before, after = (b.target_geometry.coefficients for b in (batch, faulty))
    assert torch.equal(after.expression, before.expression[[2, 2, 4, 4, 0, 0]])
    assert torch.equal(after.pose, before.pose)
    assert torch.equal(after.shape, before.shape)
    unknown = replace(batch, target_geometry=replace(batch.target_geometry, coefficients=None))
    with pytest.raises(ValueError, match="wrong_expression needs a 3DMM"):
        fault.change(unknown, samples, held_out, frozen)


def test_shuffled_tokens_mix_people_and_only_while_planted(
    batch_and_samples, tiny_backbone: Callable
) -> None:
    batch, _ = batch_and_samples
    backbone = tiny_backbone()
    features = batch.references
    fusion = LocalFusion(features.local_.shape[-1], features.global_.shape[-1], backbone.text_dim)
    net = NoNet(backbone, control=False, identity=False)
    model = PortraitModel(backbone, fusion, NoCond(), net)
    own: IdentityTokens = model.fusion(features)
    with ShuffledTokens(("sim_f",)).planted(model):
        mixed: IdentityTokens = model.fusion(features)
    assert torch.equal(model.fusion(features).tokens, own.tokens)
    assert torch.equal(mixed.tokens[0, 0], own.tokens[1, 0])
    assert torch.equal(mixed.tokens[0, 1], own.tokens[2, 1])
    assert torch.equal(mixed.tokens[5, 3], own.tokens[3, 3])
    assert sorted(mixed.tokens[:, 4].flatten().tolist()) == sorted(
        own.tokens[:, 4].flatten().tolist()
    )
