"""Check the data that the CLIP-like model is trained and measured on."""

from pathlib import Path

import pytest
import torch

from portraitlab.pretraining import clip, regressor
from portraitlab.pretraining.clip import looks_of, one_photo_each
from portraitlab.pretraining.photos import TrainingPhotos, load_photos
from portraitlab.world.settings import CLOTHES
from portraitlab.world.splits import IDENTITIES


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> TrainingPhotos:
    cache: Path = tmp_path_factory.mktemp("cache")
    return load_photos("foundation_check", identities=5, photos=3, cache=cache, workers=1)


def test_looks_tell_the_face_and_not_the_clothes(photos) -> None:
    index = torch.tensor([0, 4, 14])
    for place, looks in zip(index.tolist(), looks_of(photos, index), strict=True):
        assert looks.startswith("a person, ")
        assert photos.descriptions[place].endswith(looks.removeprefix("a person"))
        assert "skin" in looks
        assert "eyes" in looks
        assert not any(worn in looks for worn in (*CLOTHES, "background"))


def test_distractors_are_different_people(photos) -> None:
    chosen = one_photo_each(photos, 15)
    assert sorted(chosen.tolist()) == list(range(15))
    for start in range(11):
        assert len(set(photos.identities[chosen[start : start + 5].numpy()].tolist())) == 5


@pytest.mark.parametrize("script", [clip, regressor])
def test_judges_learn_from_other_people_than_conditions(script) -> None:
    (conditions, _, _), (judges, people, framings) = script.DATA.values()
    assert not set(IDENTITIES[conditions]) & set(IDENTITIES[judges])
    assert len(IDENTITIES[judges]) >= people
    assert set(framings) == {"portrait", "varied"}
