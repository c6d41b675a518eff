"""Scoring sets: fixed samples, nothing judged by what was conditioned on, refs nested."""

from __future__ import annotations

import logging

import pytest
import torch

from portraitlab.data.targets import spread_poses
from portraitlab.data.testset import ScoringSet
from portraitlab.method.select.random import RandomReference
from portraitlab.method.select.target import TargetShape


@pytest.fixture
def held_out(world_data, frozen):
    """7 photos of each of two test identities."""
    return world_data().score_photos(frozen)


def test_samples_keep_targets_references_and_judges_apart(world_data, frozen) -> None:
    held_out = world_data(score_photos=11).score_photos(frozen)
    scoring = ScoringSet(
        held_out, refs=2, select=RandomReference(), targets=2, judges=2, noise_seeds=3
    )
    assert len(scoring) == 2 * 2 * 3
    for sample in scoring.samples:
        rows = [sample.target, *sample.references, *sample.judges]
        assert len(set(rows)) == 5
        assert {held_out.store.identity[row] for row in rows} == {sample.identity}
        assert sample.shape_reference in sample.references
        assert sample.caption == held_out.store.caption[sample.target]
        assert 0 <= sample.seed < 2**32
    assert len({sample.seed for sample in scoring.samples}) == len(scoring)
    assert len({sample.target for sample in scoring.samples}) == 4


def test_targets_of_others_are_strangers_photos_and_nothing_else_changes(held_out) -> None:
    given = {"refs": 2, "select": RandomReference(), "targets": 2, "judges": 2, "noise_seeds": 3}
    own = ScoringSet(held_out, **given).samples
    others = ScoringSet(held_out, **given, targets_of="others").samples
    identity = held_out.store.identity
    for one, other in zip(own, others, strict=True):
        assert (other.identity, other.references, other.judges) == (
            *(one.identity, one.references, one.judges),
        )
        assert identity[other.target] != other.identity
        assert other.caption == held_out.store.caption[other.target]
        assert other.seed != one.seed
        assert other.shape_reference in other.references
    assert len({other.seed for other in others}) == len(others)
    assert sorted(other.target for other in others) == sorted(one.target for one in own)
    shapes = ScoringSet(held_out, **{**given, "select": TargetShape()}, targets_of="others").samples
    assert all(sample.shape_reference == sample.target for sample in shapes)


def test_targets_of_others_are_the_same_for_every_number_of_references(held_out) -> None:
    """Check nesting also if more references leave an identity out, which would shift the others."""
    held_out.store.identity[0] = "somebody else"
    few, many = (
        {
            sample.identity: (sample.target, sample.seed, sample.caption)
            for sample in ScoringSet(
                held_out, refs, RandomReference(), targets=1, targets_of="others"
            ).samples
        }
        for refs in (2, 5)
    )
    assert len(many) < len(few)
    assert many.items() <= few.items()


def test_one_person_has_no_others_to_aim_at(held_out) -> None:
    held_out.store.flawed = [row < 7 for row in range(14)]
    with pytest.raises(ValueError, match=r"targets_of=others needs two .* and there is 1"):
        ScoringSet(held_out, 3, RandomReference(), targets=1, targets_of="others")


def test_templates_are_the_same_varied_strangers_for_everyone(held_out) -> None:
    given = {"refs": 2, "select": RandomReference(), "judges": 2}
    scoring = ScoringSet(held_out, **given, targets=3, noise_seeds=2, targets_of="templates")
    store, keypoints = held_out.store, held_out.features.geometry.keypoints
    own = {s.identity: s for s in ScoringSet(held_out, **given, targets=1).samples}
    assert len(scoring) == 2 * 3 * 2
    sound = [row for row in range(len(store)) if not store.flawed[row]]
    ranked = [sound[place] for place in spread_poses(keypoints[sound], len(sound))]
    for identity in held_out.identities:
        samples = [each for each in scoring.samples if each.identity == identity]
        strangers = [row for row in ranked if store.identity[row] != identity]
        assert [each.target for each in samples[::2]] == strangers[:3]
        for each in samples:
            assert each.caption == store.caption[each.target]
            assert (each.references, each.judges) == (
                own[identity].references,
                own[identity].judges,
            )
            assert each.shape_reference in each.references
    assert len({each.seed for each in scoring.samples}) == len(scoring)
    fewer = ScoringSet(held_out, **given, targets=2, noise_seeds=2, targets_of="templates")
    aims = [{(s.identity, s.target, s.seed) for s in each.samples} for each in (fewer, scoring)]
    assert aims[0] < aims[1]
    with pytest.raises(ValueError, match=r"targets_of=templates needs data.targets=99 photos of"):
        ScoringSet(held_out, **given, targets=99, targets_of="templates")


def test_spread_poses_are_the_usual_one_and_then_the_extremes() -> None:
    face = torch.tensor([[0.4, 0.4], [0.6, 0.4], [0.5, 0.5], [0.45, 0.6], [0.55, 0.6]])
    left, right = face.clone(), face.clone()
    left[2, 0], right[2, 0] = 0.45, 0.55
    large = 0.5 + 1.5 * (face - 0.5)
    usual = face + 0.001
    faces = torch.stack([usual, left, right, large, face])
    chosen = spread_poses(faces, 4)
    assert chosen[0] in (0, 4)
    assert set(chosen[1:]) == {1, 2, 3}
    assert len(spread_poses(faces, 9)) == 5


def test_only_references_may_be_flawed(held_out) -> None:
    flawed = held_out.store.flawed
    assert any(flawed)
    held_out.store.flawed = flawed = [row % 7 in (0, 2, 5) for row in range(len(flawed))]
    seen = set()
    for seed in range(10):
        for sample in ScoringSet(held_out, 3, RandomReference(), seed, targets=1).samples:
            assert not any(flawed[row] for row in (sample.target, *sample.judges))
            seen |= {flawed[row] for row in sample.references}
    assert seen == {True, False}


def test_an_identity_without_photos_to_aim_at_is_left_out_with_a_line(held_out, caplog) -> None:
    held_out.store.flawed = [row < 7 for row in range(14)]
    with caplog.at_level(logging.WARNING):
        scoring = ScoringSet(held_out, refs=3, select=RandomReference(), targets=1)
    first, second = held_out.identities
    assert {sample.identity for sample in scoring.samples} == {second}
    assert f"identity {first} is not scored: too few photos without a flaw" in caplog.text


def test_no_photo_without_a_flaw_is_refused_with_the_remedy(held_out) -> None:
    held_out.store.flawed = [True] * 14
    with pytest.raises(
        ValueError, match=r"No held-out identity \(of 2\).* without a flaw.*Add photos"
    ):
        ScoringSet(held_out, refs=3, select=RandomReference(), targets=1)


def test_rows_of_a_table_share_targets_noise_judges_and_references(held_out) -> None:
    few, many = (
        ScoringSet(held_out, refs, RandomReference(), targets=1, judges=2).samples
        for refs in (1, 4)
    )
    for one, four in zip(few, many, strict=True):
        assert (one.target, one.seed, one.judges) == (four.target, four.seed, four.judges)
        assert one.references == four.references[:1]
    again = ScoringSet(held_out, 4, RandomReference(), targets=1, judges=2).samples
    assert again == many
    other = ScoringSet(held_out, 4, RandomReference(), seed=1, targets=1, judges=2).samples
    assert [sample.seed for sample in other] != [sample.seed for sample in many]


def test_more_references_leave_the_judges_alone(held_out) -> None:
    """Check it also where photos do not suffice for judges behind six references."""
    given = {"select": RandomReference(), "targets": 1}
    first, *more = (
        [(s.target, s.judges, s.other) for s in ScoringSet(held_out, refs, **given).samples]
        for refs in range(1, 6)
    )
    assert all(len(judges) == 1 for _, judges, _ in first)
    assert more == [first] * 4


def test_the_other_photo_has_no_flaw_and_is_neither_target_nor_judge(held_out) -> None:
    held_out.store.flawed = flawed = [row % 7 in (0, 2, 5) for row in range(14)]
    for seed in range(10):
        for sample in ScoringSet(held_out, 3, RandomReference(), seed, targets=1).samples:
            assert sample.other is not None
            assert not flawed[sample.other]
            assert sample.other not in (sample.target, *sample.judges)
            assert held_out.store.identity[sample.other] == sample.identity
    held_out.store.flawed = [row % 7 > 1 for row in range(14)]
    for sample in ScoringSet(held_out, 3, RandomReference(), targets=1).samples:
        assert sample.other is None


def test_references_may_judge_as_in_the_paper(held_out) -> None:
    given = {"refs": 3, "select": RandomReference(), "targets": 1}
    reserved = ScoringSet(held_out, **given, judges=1).samples
    conditioned = ScoringSet(held_out, **given, judges="references").samples
    for one, other in zip(reserved, conditioned, strict=True):
        assert (one.target, one.references) == (other.target, other.references)
        assert other.judges == other.references


def test_people_are_shown_in_strangers_poses(held_out) -> None:
    given = {"refs": 2, "targets": 2, "noise_seeds": 2}
    identity = held_out.store.identity
    own = ScoringSet(held_out, select=RandomReference(), **given)
    shown = own.in_strangers_poses(people=2).samples
    assert [each.identity for each in shown] == list(held_out.identities)
    for each, before in zip(shown, own.samples[::4], strict=True):
        assert identity[each.target] != each.identity
        assert (each.references, each.shape_reference) == (
            *(before.references, before.shape_reference),
        )
    shapes = ScoringSet(held_out, select=TargetShape(), **given).in_strangers_poses(people=2)
    assert all(each.shape_reference == each.target for each in shapes.samples)
    others = ScoringSet(held_out, select=RandomReference(), **given, targets_of="others")
    assert others.in_strangers_poses(people=1).samples == others.samples[:1]


def test_fid_s_real_photos_are_of_no_bound(held_out, world_data, frozen) -> None:
    scoring = ScoringSet(held_out, 2, RandomReference(), targets=1)
    of_bounds = {row for each in scoring.samples for row in (each.target, each.other)}
    unaimed = scoring.unaimed(1000)
    assert not of_bounds.intersection(unaimed.rows)
    sound = [row for row in range(14) if not held_out.store.flawed[row]]
    assert set(unaimed.rows) == set(sound) - of_bounds
    assert scoring.unaimed(3).rows == unaimed.rows[:3]

    data = world_data(real_photos=5)
    real = data.real_photos(frozen, scoring)
    people = [real.store.identity[row] for row in real.rows]
    assert len(set(people)) == 5
    assert not set(people).intersection(held_out.identities)
    assert not any(real.store.flawed)


def test_batches_hold_the_samples_in_order(held_out) -> None:
    scoring = ScoringSet(held_out, 3, RandomReference(), targets=1, judges=2, noise_seeds=3)
    samples = []
    for batch, some in scoring.batches(4):
        samples += some
        assert batch.target_index.tolist() == [sample.target for sample in some]
        assert batch.references.mask.all()
        references = torch.tensor([sample.references for sample in some])
        torch.testing.assert_close(batch.references.global_, held_out.features.global_[references])
        shapes = torch.tensor([sample.shape_reference for sample in some])
        keypoints = held_out.features.geometry.keypoints
        torch.testing.assert_close(batch.shape_geometry.keypoints, keypoints[shapes])
        torch.testing.assert_close(
            batch.text.words, held_out.features.text(batch.target_index).words
        )
    assert tuple(samples) == scoring.samples


def test_select_target_takes_the_targets_shape(held_out) -> None:
    scoring = ScoringSet(held_out, 3, TargetShape(), targets=1)
    assert all(sample.shape_reference == sample.target for sample in scoring.samples)


def test_an_identity_with_too_few_photos_is_left_out_with_a_line(held_out, caplog) -> None:
    held_out.store.identity[0] = "somebody else"
    with caplog.at_level(logging.WARNING):
        scoring = ScoringSet(held_out, refs=4, select=RandomReference(), targets=2)
    first, second = held_out.identities
    assert {sample.identity for sample in scoring.samples} == {second}
    assert f"identity {first} is not scored: it has 6 photos, and needs 7 photos" in caplog.text


def test_more_references_than_photos_are_refused_with_the_remedy(held_out) -> None:
    match = r"refs=6 is too many.*9 photos \(targets=2, refs=6.*has 7\. Lower refs or add photos"
    with pytest.raises(ValueError, match=match):
        ScoringSet(held_out, refs=6, select=RandomReference(), targets=2)
    with pytest.raises(ValueError, match="refs=0: a whole number from 1 is needed"):
        ScoringSet(held_out, refs=0, select=RandomReference())
