"""Check that recognisers' figures compare people with strangers, and relatives with relatives."""

from itertools import combinations

import numpy as np
import pytest
import torch

from portraitlab.faces.alignment import align
from portraitlab.pretraining.photos import flawed, load_photos
from portraitlab.pretraining.recognisers import cosine_of_flawed, verification
from portraitlab.world.identity import FAMILY_SIZE
from portraitlab.world.pretrained import load_recogniser
from portraitlab.world.render import render_photo
from portraitlab.world.splits import IDENTITIES

SPLIT, PEOPLE, PHOTOS = "foundation_check_look_alikes", 8, 4


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory):
    """Two families with four photos of each member."""
    return load_photos(SPLIT, PEOPLE, PHOTOS, tmp_path_factory.mktemp("cache"), workers=1)


@pytest.fixture(scope="module")
def cosines(photos) -> torch.Tensor:
    judge = load_recogniser("judge")
    images = photos.pixels(torch.arange(len(photos)))
    seen = judge(align(images, torch.from_numpy(photos.keypoints), judge.crop_size))
    return seen @ seen.T


@pytest.mark.parametrize("within_families", [True, False])
def test_the_figures_are_of_the_pairs_that_they_name(photos, cosines, within_families) -> None:
    same, other = [], []
    for i, j in combinations(range(len(photos)), 2):
        one, two = i // PHOTOS, j // PHOTOS
        if one == two:
            same.append(float(cosines[i, j]))
        elif not within_families or one // FAMILY_SIZE == two // FAMILY_SIZE:
            other.append(float(cosines[i, j]))
    found = verification(load_recogniser("judge"), photos, within_families)
    below = np.mean([[o < s for o in other] for s in same])
    assert found["auc"] == pytest.approx(below, abs=1e-3)
    assert found["cosine_same"] == pytest.approx(np.mean(same), abs=1e-3)
    assert found["cosine_other"] == pytest.approx(np.mean(other), abs=1e-3)


def test_flawed_photos_are_those_that_the_renderer_calls_so(photos, cosines) -> None:
    poor = flawed(SPLIT, PEOPLE, PHOTOS)
    seeds = IDENTITIES[SPLIT][:PEOPLE]
    assert poor.tolist() == [bool(render_photo(s, p).flaws) for s in seeds for p in range(PHOTOS)]
    assert 0 < poor.sum() < len(poor)
    pairs = [
        float(cosines[i, j])
        for i in range(len(photos))
        for j in range(len(photos))
        if i // PHOTOS == j // PHOTOS and poor[i] and not poor[j]
    ]
    found = cosine_of_flawed(load_recogniser("judge"), photos, torch.from_numpy(poor))
    assert found == pytest.approx(np.mean(pairs), abs=1e-3)
