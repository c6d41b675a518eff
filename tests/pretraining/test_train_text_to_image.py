"""Check the errors of the text-to-image model, and the sheet of its pictures."""

from pathlib import Path

import torch

from portraitlab.pretraining.photos import load_photos
from portraitlab.pretraining.samples import beside
from portraitlab.pretraining.text_to_image import BACKGROUND_WEIGHT, person_weights


def test_an_error_on_the_person_counts_more_than_one_beside(tmp_path: Path) -> None:
    photos = load_photos("foundation_check", identities=4, photos=2, cache=tmp_path, workers=1)
    index = torch.arange(1, 8)
    weights = person_weights(photos, 16)
    assert weights.shape == (8, 1, 16, 16)
    weights = weights[index]
    shares = photos.masks(index).unfold(2, 4, 4).unfold(3, 4, 4).flatten(4).mean(-1)
    assert (weights[shares == 1] == 1).all()
    beyond = weights[shares == 0]
    assert len(beyond) > 0
    torch.testing.assert_close(beyond, torch.full_like(beyond, BACKGROUND_WEIGHT))
    assert (weights[(shares > 0) & (shares < 1)] > BACKGROUND_WEIGHT).all()


def test_samples_stand_above_the_renders_of_their_captions() -> None:
    drawn, renders = torch.arange(4.0).view(4, 1, 1, 1), 10 + torch.arange(4.0).view(4, 1, 1, 1)
    rows = beside(drawn, renders, columns=2).flatten().tolist()
    assert rows == [0, 1, 10, 11, 2, 3, 12, 13]
