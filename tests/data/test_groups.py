"""Bodies and groups of the world: rows of people, their regions, and the samples to score."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from portraitlab.data.rendering import groups_of
from portraitlab.data.testset import ScoringSet
from portraitlab.faces.regions import box_regions
from portraitlab.method.select.random import RandomReference
from portraitlab.world.canvas import render_canvas
from portraitlab.world.render import render_photo


@pytest.fixture
def groups(world_data, frozen):
    """Two groups, of two and of three people, each in two pictures, and photos of every person."""
    return world_data(
        framing="half", score_framing="group", score_identities=5, targets=2
    ).score_photos(frozen)


@pytest.fixture
def scoring(groups) -> ScoringSet:
    return ScoringSet(groups, 2, RandomReference(), targets=2, judges=1)


def test_people_are_divided_into_twos_threes_and_fours() -> None:
    assert groups_of(range(12)) == [(0, 1), (2, 3, 4), (5, 6, 7, 8), (9, 10)]
    assert groups_of(range(10))[-1] == (5, 6, 7, 8)  # nobody stands alone


def test_a_row_is_one_person_of_the_picture_with_a_portrait_as_view(groups) -> None:
    store = groups.store
    rows = [row for row, scene in enumerate(store.scene) if scene]
    assert len(rows) == 2 * (2 + 3)
    first = [row for row in rows if store.scene[row] == store.scene[rows[0]]]
    seeds = [int(store.identity[row]) for row in first]
    photo = render_canvas(seeds, 0, "group", size=32)
    light = store.true_light(first)
    torch.testing.assert_close(light, torch.from_numpy(photo.light.direction).expand_as(light))
    columns = store.table.columns()
    for row, seed, person in zip(first, seeds, photo.people, strict=True):
        image = ((store.images([row])[0] + 1) * 127.5).round().permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(image, photo.image)
        view = ((store.views([row])[0] + 1) * 127.5).round().permute(1, 2, 0).numpy()
        close = render_photo(seed, 0, size=64)
        np.testing.assert_array_equal(view, close.image)
        np.testing.assert_array_equal(store.view_masks([row])[0].numpy(), close.person_mask)
        np.testing.assert_array_equal(store.person_masks([row])[0].numpy(), person.region)
        np.testing.assert_array_equal(columns["joints"][[row]][0].numpy(), person.joints)
        geometry = groups.features.geometry[[row]]
        np.testing.assert_allclose(geometry.keypoints[0].numpy(), person.face.keypoints)
        np.testing.assert_allclose(geometry.coefficients.pose[0].numpy(), person.face.pose)


def test_the_samples_of_a_picture_are_its_people(groups, scoring) -> None:
    store = groups.store
    pictures = scoring.pictures()
    assert sorted(map(len, pictures)) == [2, 2, 3, 3]
    for people in pictures:
        assert {sample.scene for sample in people} == {store.scene[people[0].target]}
        assert len({sample.seed for sample in people}) == 1
        for sample in people:
            assert store.identity[sample.target] == sample.identity
            for row in (*sample.references, *sample.judges):
                assert store.identity[row] == sample.identity
                assert not store.scene[row]
    assert len({people[0].seed for people in pictures}) == len(pictures)


def test_a_batch_has_the_people_of_each_picture_and_masks_the_rest(groups, scoring) -> None:
    batches = list(scoring.batches(3))
    assert [len(batch) for batch, _ in batches] == [3, 1]
    batch, _ = batches[0]
    people = torch.tensor([len(each) for each in scoring.pictures()[:3]])
    assert torch.equal(batch.references.mask.any(dim=-1).sum(dim=1), people)
    assert batch.references.global_.shape[:3] == (3, 3, 2)
    assert batch.target_geometry.keypoints.shape == (3, 3, 5, 2)
    absent = ~batch.references.mask.any(dim=-1)
    assert not batch.regions[absent].any()
    assert not batch.target_geometry.score[absent].any()
    # The people of the set are those of the samples, in order.
    sample = scoring.pictures()[0][1]
    expected = groups.features.global_[list(sample.references)]
    torch.testing.assert_close(batch.references.global_[0, 1], expected)


def test_a_region_holds_its_face_and_no_cell_has_two_owners(scoring) -> None:
    for batch, _ in scoring.batches(2):
        assert int(batch.regions.sum(dim=1).max()) == 1
        size = batch.regions.shape[-1]
        for picture, there in enumerate(batch.references.mask.any(dim=-1)):
            for person in there.nonzero().flatten():
                x, y = batch.target_geometry.keypoints[picture, person].mean(dim=0) * size
                assert batch.regions[picture, person, int(y), int(x)]


def test_where_boxes_overlap_the_larger_is_in_front() -> None:
    boxes = torch.tensor([[[0.0, 0.0, 0.5, 0.5], [0.2, 0.2, 1.0, 1.0], [0.9, 0.9, 0.91, 0.91]]])
    there = torch.tensor([[True, True, False]])
    first, second, absent = box_regions(boxes, there, (10, 10))[0]
    middles = (torch.arange(10) + 0.5) / 10
    for row, y in enumerate(middles):
        for column, x in enumerate(middles):
            in_second = bool(x >= 0.2 and y >= 0.2)
            assert second[row, column] == in_second
            assert first[row, column] == (not in_second and bool(x <= 0.5 and y <= 0.5))
    assert not absent.any()


def test_a_face_smaller_than_a_cell_has_one() -> None:
    boxes = torch.tensor([[[0.41, 0.61, 0.43, 0.63]]])
    (region,) = box_regions(boxes, torch.ones(1, 1, dtype=torch.bool), (4, 4))[0]
    assert region.nonzero().tolist() == [[2, 1]]


@pytest.mark.parametrize(
    "settings",
    [{"framing": "close"}, {"score_framing": "group"}, {"framing": "half", "score_framing": "x"}],
)
def test_unknown_framings_are_refused(world_data, settings) -> None:
    with pytest.raises(ValueError, match="choose one of"):
        world_data(**settings)
