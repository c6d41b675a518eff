"""The photos that the foundation learns from: framings, and two trainings that render the same."""

from pathlib import Path

import numpy as np
import pytest

from portraitlab.pretraining.photos import _render, load_framings, load_photos
from portraitlab.world.splits import IDENTITIES

PEOPLE = 3


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_framings_of_the_same_people_come_one_after_the_other(cache: Path) -> None:
    photos = load_framings("judge", PEOPLE, {"portrait": 2, "varied": 1}, cache, workers=1)
    assert photos.identities.tolist() == [0, 0, 1, 1, 2, 2, 0, 1, 2]
    portraits = load_photos("judge", PEOPLE, 2, cache, workers=1)
    assert np.array_equal(photos.images[: 2 * PEOPLE], portraits.images)
    assert photos.captions[: 2 * PEOPLE] == portraits.captions
    scales = photos.truth[:, 29]
    assert ((scales[: 2 * PEOPLE] > 0.4) & (scales[: 2 * PEOPLE] < 0.45)).all()
    assert ((scales[2 * PEOPLE :] < 0.4) | (scales[2 * PEOPLE :] > 0.45)).any()


def test_photos_that_another_training_rendered_meanwhile_are_kept(cache: Path) -> None:
    load_photos("judge", PEOPLE, 2, cache, workers=1)
    (folder,) = cache.glob("*/judge-3x2")
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    tasks = [(seed, 2, "portrait", 64) for seed in IDENTITIES["judge"][:PEOPLE]]
    _render(tasks, folder, workers=1)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert not list(folder.parent.glob("*.part-*"))
