"""Views of one moment as training pairs (IC-Portrait, Sec. 3.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from portraitlab.data.batches import TrainingBatches
from portraitlab.data.features import Frozen
from portraitlab.data.photo_set import PhotoSet
from portraitlab.data.views import ViewsData
from portraitlab.world.settings import make_settings
from portraitlab.world.splits import IDENTITIES

Make = Callable[..., ViewsData]


@pytest.fixture
def views(tmp_path: Path) -> Make:
    def make(**settings: Any) -> ViewsData:
        small = {
            "cache": str(tmp_path / "cache"), "identities": 2, "photos_per_identity": 3,
            "score_identities": 2, "score_photos": 7, "workers": 0, "moments": 2, "most_yaw": 25.0,
        }  # fmt: skip
        return ViewsData(**(small | settings))

    return make


@pytest.fixture
def photos(views: Make, frozen: Frozen) -> PhotoSet:
    return views().train_photos(frozen)


def test_a_moment_is_seen_from_cameras_within_the_largest_turn(photos: PhotoSet) -> None:
    assert len(photos.identities) == 4
    assert len(photos.store) == 12
    poses = photos.store.true_coefficients(range(12)).pose.unflatten(0, (4, 3))
    for moment, seen in zip(photos.identities, poses, strict=True):
        person, photo = map(int, moment.split("-"))
        assert person in IDENTITIES["train"]
        settings = make_settings(person, photo)
        assert not settings.flaws
        # A camera that moves around the person changes yaw, pitch and roll, not size or place.
        np.testing.assert_allclose(seen[:, 3:], settings.pose[None, 3:].repeat(3, 0), atol=1e-5)
        turned = (seen[:, 0] - settings.yaw).abs()
        assert turned.max() < np.deg2rad(25) * 1.2  # of the head's yaw, which a pitch changes
        assert (turned > 0.01).any()


def test_target_and_reference_are_two_views_of_one_moment(photos: PhotoSet) -> None:
    photos = replace(photos, wants=frozenset({"pictures"}))
    batches = TrainingBatches(photos, refs=1, batch_size=6, steps=2, seed=0, prompt_dropout=0.5)
    for step in range(2):
        batch, rows = batches[step], batches.pairs(step)
        for profile, target in rows.tolist():
            assert profile != target
            assert photos.store.identity[profile] == photos.store.identity[target]
            assert photos.store.caption[profile] == photos.store.caption[target]
        pictures = batch.pictures
        assert pictures is not None
        assert torch.equal(pictures.profile, photos.store.images(rows[:, 0]))
        assert torch.equal(pictures.style, photos.store.images(rows[:, 1]))
        assert torch.equal(pictures.latents, photos.features.latents[rows[:, 0]])
        assert not pictures.prompted.all()
        assert len(set(pictures.seed.tolist())) == 6
    assert not torch.equal(batches[0].pictures.seed, batches[1].pictures.seed)
    assert torch.equal(batches[1].pictures.seed, pictures.seed)


def test_scored_people_have_ordinary_photos(views: Make, frozen: Frozen) -> None:
    scored = views().score_photos(frozen)
    assert set(scored.identities) == {str(seed) for seed in IDENTITIES["development"][:2]}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"moments": 0}, "data.moments=0: a whole number from 1 is needed"),
        ({"most_yaw": 0.0}, "data.most_yaw=0.0: a number above 0 up to 60 is needed"),
        ({"most_yaw": 70.0}, "data.most_yaw=70.0: a number above 0 up to 60 is needed"),
        ({"photos_per_identity": 1}, "data.photos_per_identity=1: a whole number from 2 is needed"),
    ],
)
def test_settings_that_make_no_pairs_are_refused(
    views: Make, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        views(**settings)
