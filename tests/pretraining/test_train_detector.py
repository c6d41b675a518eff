"""Training data of the detector, decoding of its output, and its recall and precision."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from portraitlab.pretraining.canvases import Canvases, load_canvases
from portraitlab.pretraining.crowds import (
    LEAST_FACE,
    LEAST_SHOWN,
    Crowd,
    portraits,
    tiled,
    without_faces,
)
from portraitlab.pretraining.detector import accuracy, losses, matches, targets, tilings
from portraitlab.pretraining.photos import TrainingPhotos, load_photos
from portraitlab.world.models.detector import (
    CONFIG,
    STRIDE,
    DetectedFaces,
    HeatMapDetector,
    read_faces,
)

TINY = {**CONFIG, "embedding_size": 8, "hidden_sizes": [8, 16, 16], "depths": [1, 1, 1]}
SIZE = 128


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> TrainingPhotos:
    cache: Path = tmp_path_factory.mktemp("cache")
    return load_photos("foundation_check", 8, 2, cache, 1, "varied")


@pytest.fixture(scope="module")
def canvases(tmp_path_factory: pytest.TempPathFactory) -> Canvases:
    return load_canvases("foundation_check", 12, tmp_path_factory.mktemp("cache"), workers=1)


@pytest.fixture
def crowd(photos: TrainingPhotos) -> Crowd:
    """Four pictures of four portraits each."""
    return tiled(portraits(photos, torch.arange(16)), 2, SIZE)


def as_given(crowd: Crowd) -> tuple[Tensor, Tensor]:
    """Scores and places of a net that gives its targets."""
    heat, places, _, _ = targets(crowd)
    return heat, places


def test_faces_are_read_where_they_were_put(crowd: Crowd) -> None:
    cells = SIZE / STRIDE
    for number, found in enumerate(read_faces(*as_given(crowd), (cells, cells), 0.5)):
        assert len(found) == 4
        matched = matches(found, crowd.boxes[number], least=0.99)
        assert sorted(matched.tolist()) == [0, 1, 2, 3]
        torch.testing.assert_close(found.keypoints, crowd.keypoints[number][matched])


def test_keypoints_lie_in_boxes_and_boxes_on_faces(photos: TrainingPhotos, canvases) -> None:
    everyone = canvases.crowd(torch.arange(len(canvases)))
    for one in (portraits(photos, torch.arange(len(photos))), everyone):
        there = one.shown > 0
        boxes, keypoints = one.boxes[there], one.keypoints[there]
        assert (keypoints > boxes[:, None, :2] - 1e-5).all()  # a nose may be a face's edge
        assert (keypoints < boxes[:, None, 2:] + 1e-5).all()
    # Two to four faces in a group, one elsewhere.
    counts = {kind: part.shown.gt(0).sum(1) for kind, part in canvases.by_kind().items()}
    assert set(counts["group"].tolist()) == {2, 3, 4}
    assert set(counts["half"].tolist()) == set(counts["full"].tolist()) == {1}


def test_tiles_and_mirrors_take_their_faces_along(crowd: Crowd) -> None:
    painted = torch.full_like(crowd.images, -1.0)
    for number in range(len(crowd)):
        for left, top, right, bottom in (crowd.boxes[number] * SIZE).round().int().tolist():
            painted[number, :, top - 2 : bottom + 2, left - 2 : right + 2] = 1.0
    marked = Crowd(painted, crowd.boxes, crowd.keypoints, crowd.shown)
    for moved in (marked.mirrored(), tiled(marked, 2, SIZE)):
        for number in range(len(moved)):
            column, row = (moved.keypoints[number] * SIZE).long().flatten(0, 1).T
            assert (moved.images[number, 0, row, column] > 0).all()
    twice = crowd.mirrored().mirrored()
    torch.testing.assert_close(twice.boxes, crowd.boxes)
    torch.testing.assert_close(twice.keypoints, crowd.keypoints)
    eyes = crowd.mirrored().keypoints[:, :, :2, 0]
    assert (eyes[..., 0] < eyes[..., 1]).float().mean() > 0.9  # as before: the image's left first


def test_hidden_faces_count_as_nothing(crowd: Crowd) -> None:
    shown = crowd.shown.clone()
    shown[:, 0] = LEAST_SHOWN / 2
    hidden = Crowd(crowd.images, crowd.boxes, crowd.keypoints, shown)
    heat, _, weight, counted = targets(hidden)
    learned = (hidden.shown >= LEAST_SHOWN) & (hidden.sizes >= LEAST_FACE)
    assert torch.equal((heat > 0.999).sum((1, 2)), learned.sum(1))
    # The middle of the hidden face is neither a face nor none.
    column, row = (crowd.boxes[:, 0].unflatten(-1, (2, 2)).mean(1) * SIZE / STRIDE).long().T
    assert not counted[torch.arange(len(crowd)), row, column].any()
    # All faces that are learned count alike.
    widths = (hidden.boxes[..., 2:] - hidden.boxes[..., :2]).amax(-1) * SIZE / STRIDE
    torch.testing.assert_close(weight.sum(), (1 / widths)[learned].sum(), rtol=1e-3, atol=0)


def test_tiny_faces_count_as_nothing(crowd: Crowd) -> None:
    heat, _, weight, counted = targets(tiled(crowd, 2, SIZE // 4))
    assert heat.max() == 0
    assert weight.max() == 0
    assert not counted.all()


def test_an_empty_tile_has_no_face(photos: TrainingPhotos) -> None:
    gone = without_faces(photos, torch.arange(4), torch.Generator().manual_seed(0))
    heat, _, weight, counted = targets(tiled(gone, 1, SIZE))
    assert heat.max() == 0
    assert weight.max() == 0
    assert counted.all()
    drawn = tilings(photos, 2, 8, torch.Generator().manual_seed(0))
    assert drawn.images.shape == (8, 3, SIZE, SIZE)
    assert 0 < drawn.shown.sum() < 32


def test_a_small_net_learns_to_find_the_faces_of_a_few_pictures(photos: TrainingPhotos) -> None:
    few = tiled(portraits(photos, torch.arange(4)), 1, 64)
    torch.manual_seed(0)
    detector = HeatMapDetector(TINY)
    optimiser = torch.optim.Adam(detector.parameters(), 1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        sum(losses(detector, few, "cpu").values()).backward()
        optimiser.step()
    found = accuracy(detector, few)
    assert found["recall"] > 0.8
    assert found["precision"] > 0.8
    assert found["keypoint_error"] < 0.2


@pytest.mark.parametrize(("height", "width"), [(64, 64), (100, 130)])
def test_pictures_of_any_size_are_searched(height: int, width: int) -> None:
    detector = HeatMapDetector(TINY).eval()
    found = detector.find(torch.zeros(2, 3, height, width), threshold=0.0)
    assert len(found) == 2
    assert all(len(faces.boxes) == len(faces.scores) == len(faces.keypoints) for faces in found)
    assert (found[0].scores.diff() <= 0).all()


def test_no_box_is_matched_twice() -> None:
    box = torch.tensor([0.2, 0.2, 0.4, 0.4])
    boxes = torch.stack([box, box + 0.5])
    found = DetectedFaces(
        torch.stack([box + 0.01, box - 0.01, box + 0.5, box + 0.2]),
        torch.tensor([0.9, 0.8, 0.7, 0.6]),
        torch.zeros(4, 5, 2),
    )
    assert matches(found, boxes).tolist() == [0, -1, 1, -1]
    assert matches(found, boxes[:0]).tolist() == [-1] * 4
