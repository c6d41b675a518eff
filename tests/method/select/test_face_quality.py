"""S_q ranks poor photos below good ones, of people that no model has seen."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from portraitlab.data.photo_set import PhotoSet
from portraitlab.faces.alignment import align
from portraitlab.world.pretrained import load_quality, load_regressor
from portraitlab.world.render import render_photo
from portraitlab.world.settings import make_settings
from portraitlab.world.splits import IDENTITIES

SHOTS = [(seed, photo) for seed in IDENTITIES["foundation_check"][1000:1120] for photo in range(8)]
MOST = 40


def scores(shots: list[tuple[int, int]]) -> Tensor:
    model, regressor = load_quality(), load_regressor()
    rendered = [torch.from_numpy(render_photo(*shot).image) for shot in shots]
    images = torch.stack(rendered).permute(0, 3, 1, 2) / 127.5 - 1
    return model(align(images, regressor(images).keypoints, model.crop_size))


def those_with(*kinds: str) -> list[tuple[int, int]]:
    """Photos with one flaw, of one of these kinds; without kinds, photos without a flaw."""
    single = [{kind} for kind in kinds] if kinds else [set()]
    return [shot for shot in SHOTS if set(make_settings(*shot).flaws) in single][:MOST]


@pytest.fixture(scope="module")
def sound() -> Tensor:
    return scores(those_with())


@pytest.mark.parametrize(
    "kinds", [("blurred",), ("mask", "scarf", "hand"), ("dim light",)], ids=lambda kinds: kinds[0]
)
def test_a_flawed_photo_scores_less(sound: Tensor, kinds: tuple[str, ...]) -> None:
    poor = scores(those_with(*kinds))
    assert len(poor) >= 20
    assert (sound[:, None] > poor).float().mean() > 0.85


def test_scores_are_between_zero_and_one_for_any_image(sound: Tensor) -> None:
    model = load_quality()
    noise = torch.randn(4, 3, model.crop_size, model.crop_size).clamp(-1, 1)
    for some in (sound, model(noise), model(torch.zeros_like(noise))):
        assert ((some >= 0) & (some <= 1)).all()


def test_photos_are_scored_by_row_alone(people: PhotoSet) -> None:
    model = load_quality()
    rows = torch.tensor([[5, 0, 9], [7, 7, 1]])
    found = people.quality(model, rows)
    assert found.shape == rows.shape
    torch.testing.assert_close(found[1, 0], found[1, 1])
    alone = people.quality(model, torch.tensor([[9]]))
    torch.testing.assert_close(found[0, 2], alone[0, 0])
