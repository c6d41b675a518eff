"""Control images encoded ahead are those of each step, and none is encoded twice."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from portraitlab.data.ahead import EncodedAhead
from portraitlab.data.batches import TrainingBatches
from portraitlab.types import FaceGeometry


class Drawing:
    """A stand-in for the model: its latents identify shape and target; it counts its drawings."""

    def __init__(self) -> None:
        self.pairs: list[tuple[float, ...]] = []
        self.sizes: list[int] = []

    def __call__(self, shape: FaceGeometry, target: FaceGeometry) -> Tensor:
        latents = torch.stack([shape.keypoints, 2 * target.keypoints], dim=1)
        self.pairs += [tuple(pair.flatten().tolist()) for pair in latents]
        self.sizes.append(len(latents))
        return latents


def make(photos, **settings) -> TrainingBatches:
    usual = {"refs": 4, "batch_size": 8, "steps": 24, "seed": 0}
    return TrainingBatches(photos, **(usual | settings))


def assert_drawn(batches: TrainingBatches, ahead: EncodedAhead, steps: range) -> None:
    for step in steps:
        batch, plain = ahead[step], batches[step]
        assert torch.equal(batch.drawing, Drawing()(plain.shape_geometry, plain.target_geometry))
        assert plain.drawing is None
        assert torch.equal(batch.target_index, plain.target_index)


def test_each_step_has_the_latents_of_its_own_drawings(photos) -> None:
    drawing, batches = Drawing(), make(photos)
    ahead = EncodedAhead(batches, drawing)
    assert_drawn(batches, ahead, range(24))
    assert len(ahead) == 24


def test_a_pair_of_photos_is_drawn_once(photos) -> None:
    drawing, batches = Drawing(), make(photos, steps=100)
    ahead = EncodedAhead(batches, drawing)
    ahead[0], ahead[99]
    pairs = torch.cat([batches.pairs(step) for step in range(100)])
    distinct = len(pairs.unique(dim=0))
    assert distinct < 0.5 * len(pairs)
    assert len(set(drawing.pairs)) == distinct
    # All batches have one size, so the last is padded.
    assert set(drawing.sizes) == {16}
    assert sum(drawing.sizes) < distinct + 16


def test_no_more_is_held_than_there_is_memory_for(photos) -> None:
    drawing, batches = Drawing(), make(photos)
    latents = photos.features.latents[0]
    room = 20
    memory = room * latents.numel() * latents.element_size()
    ahead = EncodedAhead(batches, drawing, memory=memory)
    assert_drawn(batches, ahead, range(24))
    assert sum(drawing.sizes) > len(set(drawing.pairs)) + 16, "it was encoded all at once"
    assert ahead.most == room
    assert EncodedAhead(batches, drawing, 3 * latents.numel(), memory).most == room // 3
    tight = EncodedAhead(batches, Drawing(), memory=1)
    assert_drawn(batches, tight, range(3))


def test_a_resumed_training_encodes_only_what_is_left(photos) -> None:
    drawing, batches = Drawing(), make(photos)
    ahead = EncodedAhead(batches, drawing)
    assert_drawn(batches, ahead, range(20, 24))
    left = torch.cat([batches.pairs(step) for step in range(20, 24)])
    assert len(set(drawing.pairs)) == len(left.unique(dim=0))


def test_each_device_encodes_its_own_share(photos) -> None:
    drawing, batches = Drawing(), make(photos)
    batches.rank, batches.world_size = 1, 2
    ahead = EncodedAhead(batches, drawing)
    assert_drawn(batches, ahead, range(24))
    assert len(ahead[0]) == 4


def test_without_a_drawing_there_is_nothing_to_encode(photos) -> None:
    ahead = EncodedAhead(make(photos), lambda shape, target: None)
    assert ahead[3].drawing is None


def test_a_step_beyond_the_training_is_refused(photos) -> None:
    ahead = EncodedAhead(make(photos), Drawing())
    with pytest.raises(IndexError, match=r"step 24 is outside 0\.\.23"):
        ahead[24]
