"""Check which reference's shape draws the landmarks, by every choice."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from omegaconf import OmegaConf
from placed import ROOT

from portraitlab.data.photo_set import PhotoSet
from portraitlab.data.testset import Sample, ScoringSet
from portraitlab.faces.face3d.linear import rotation_matrices
from portraitlab.method.select.angle import ClosestAngle, angle_of, angle_score
from portraitlab.method.select.manual import ManualReference
from portraitlab.method.select.quality import BestQuality
from portraitlab.method.select.quality_angle import QualityAndAngle
from portraitlab.method.select.random import RandomReference
from portraitlab.method.select.selection import TARGET, Selection
from portraitlab.method.select.target import TargetShape
from portraitlab.types import Candidates
from portraitlab.world.pretrained import load_quality

QUALITY = load_quality()
SCORED = (BestQuality(QUALITY), ClosestAngle(), QualityAndAngle(QUALITY))
MANUAL = OmegaConf.load(ROOT / "conf" / "select" / "manual.yaml")


def by_name(selection: object) -> str:
    return type(selection).__name__


def choose(selection: Selection, candidates: Candidates, seed: int = 0) -> list[int]:
    return selection.choose(candidates, torch.Generator().manual_seed(seed)).tolist()


@pytest.mark.parametrize("selection", [RandomReference(), *SCORED], ids=by_name)
def test_a_masked_reference_is_never_taken(selection: Selection, candidates: Candidates) -> None:
    assert not candidates.mask.all()
    # What stands in a masked place is the best there could be.
    quality = torch.where(candidates.mask, candidates.quality, 9.0)
    aim = candidates.target.coefficients.pose[:, None].expand(-1, 5, -1)
    own = candidates.references.coefficients
    pose = torch.where(candidates.mask[..., None], own.pose, aim)
    references = replace(candidates.references, coefficients=replace(own, pose=pose))
    tempting = replace(candidates, quality=quality, references=references)
    rows = range(len(candidates.mask))
    assert candidates.mask[rows, choose(selection, tempting)].all()


@pytest.mark.parametrize("selection", SCORED, ids=by_name)
def test_the_order_of_the_references_has_no_say(
    selection: Selection, candidates: Candidates
) -> None:
    order = torch.tensor([3, 0, 4, 2, 1])
    moved = replace(
        candidates,
        references=candidates.references[:, order],
        mask=candidates.mask[:, order],
        quality=candidates.quality[:, order],
    )
    assert order[choose(selection, moved)].tolist() == choose(selection, candidates)


@pytest.mark.parametrize("selection", SCORED, ids=by_name)
def test_of_equal_references_the_first_is_taken(
    selection: Selection, candidates: Candidates
) -> None:
    first = candidates.references[:, :1]
    own = first.coefficients
    pose = own.pose.expand(-1, 5, -1)
    same = replace(
        candidates,
        references=replace(candidates.references, coefficients=replace(own, pose=pose)),
        quality=torch.full_like(candidates.quality, 0.5),
    )
    assert choose(selection, same) == candidates.mask.float().argmax(1).tolist()


def test_each_takes_the_highest_of_its_own_score(candidates: Candidates) -> None:
    angle = angle_of(candidates)
    scores = (candidates.quality, angle, candidates.quality + 0.5 * angle)
    for selection, score in zip(SCORED, scores, strict=True):
        best = score.masked_fill(~candidates.mask, -1).max(1).values
        taken = score[range(len(score)), choose(selection, candidates)]
        torch.testing.assert_close(taken, best)
    assert choose(QualityAndAngle(QUALITY, 0.0), candidates) == choose(SCORED[0], candidates)
    assert choose(QualityAndAngle(QUALITY, 1e6), candidates) == choose(SCORED[1], candidates)


def test_random_draws_every_reference_that_is_there_and_no_other(candidates: Candidates) -> None:
    mask = torch.tensor([[True, False, True], [False, True, False]]).repeat(500, 1)
    many = replace(candidates, mask=mask)
    chosen = torch.tensor(choose(RandomReference(), many))
    assert (chosen[1::2] == 1).all()
    assert set(chosen[::2].tolist()) == {0, 2}
    assert 200 < (chosen[::2] == 0).sum() < 300
    assert chosen.tolist() == choose(RandomReference(), many)
    assert chosen.tolist() != choose(RandomReference(), many, seed=1)


def test_target_takes_the_targets_own_shape(candidates: Candidates) -> None:
    assert choose(TargetShape(), candidates) == [TARGET] * len(candidates.mask)


@pytest.mark.parametrize("selection", [SCORED[0], SCORED[2]], ids=by_name)
def test_references_without_a_score_are_refused_with_the_remedy(
    selection: Selection, candidates: Candidates
) -> None:
    with pytest.raises(ValueError, match=r"no face quality; .* select\.quality, .* select=angle"):
        choose(selection, replace(candidates, quality=None))


@pytest.fixture(scope="module")
def taken(people: PhotoSet) -> dict[str, tuple[Sample, ...]]:
    """Choose by each selection among six references of each of twelve people."""
    selections = {
        "target": TargetShape(),
        "random": RandomReference(),
        "quality": SCORED[0],
        "angle": SCORED[1],
        "quality_angle": SCORED[2],
        "manual": ManualReference(str(ROOT / MANUAL.file), MANUAL.digest),
    }
    return {
        name: ScoringSet(people, 6, selection).samples for name, selection in selections.items()
    }


def test_selections_change_whose_shape_is_drawn_and_nothing_else(taken) -> None:
    first = taken["random"]
    for samples in taken.values():
        drawn = [replace(sample, shape_reference=0) for sample in samples]
        assert drawn == [replace(sample, shape_reference=0) for sample in first]
    for name, samples in taken.items():
        for sample in samples:
            own = (sample.target,) if name == "target" else sample.references
            assert sample.shape_reference in own


def test_no_two_selections_take_the_same_photos_of_the_world(taken) -> None:
    for one, other in itertools.combinations(taken, 2):
        assert taken[one] != taken[other], (one, other)


def test_each_selection_takes_what_it_is_named_for(people: PhotoSet, taken) -> None:
    def flaws(name: str) -> int:
        return sum(people.store.flawed[sample.shape_reference] for sample in taken[name])

    def angle(name: str) -> float:
        pairs = [(sample.shape_reference, sample.target) for sample in taken[name]]
        own, aim = (people.store.true_coefficients(rows).pose for rows in zip(*pairs, strict=True))
        return float(angle_score(*(rotation_matrices(pose[:, :3]) for pose in (own, aim))).mean())

    assert flaws("quality") < flaws("random")
    assert flaws("quality") <= flaws("quality_angle") <= flaws("angle")
    assert angle("angle") > angle("quality_angle") > angle("random")
    # By the world's own truth nothing is better.
    assert flaws("manual") <= flaws("quality")
