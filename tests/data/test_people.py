"""People are read from folders of photos, and faces are matched to them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from portraitlab.data.people import match, read_people
from portraitlab.faces.matting.none import NoMatting
from portraitlab.world.render import render_photo


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for person, photos in (("ann", 3), ("bob", 1)):
        folder = tmp_path / person
        folder.mkdir()
        for photo in range(photos):
            Image.fromarray(render_photo(len(person) + photos, photo).image).save(
                folder / f"{photo}.png"
            )
    return tmp_path


def read(root: Path, frozen, **settings):
    return read_people(
        root, frozen.encoder, NoMatting(), frozen.backbone, **{"most": 4, **settings}
    )


def test_a_folder_for_each_person(root: Path, frozen) -> None:
    people = read(root, frozen)
    assert people.names == ("ann", "bob")
    assert people.features.mask.tolist() == [[True] * 3, [True, False, False]]
    assert not people.features.local_[1, 1:].any()
    assert len(people.shape) == 2
    torch.testing.assert_close(people.embeddings.norm(dim=-1), torch.ones(2))
    torch.testing.assert_close(people.embeddings[1], people.features.global_[1, 0])
    assert people.features.latents is None
    assert people.pictures is None


def test_the_first_photo_of_each_is_the_profile(root: Path, frozen) -> None:
    pictures = read(root, frozen, pictures=True).pictures
    assert pictures.profile.shape == (2, 3, 32, 32)
    bob = read(root / "bob", frozen, pictures=True, latents=True)
    assert torch.equal(pictures.profile[1:], bob.pictures.profile)
    torch.testing.assert_close(bob.pictures.latents, bob.features.latents[:, 0])
    assert pictures.prompted.all()


def test_photos_of_one_person_and_no_more_than_the_most(root: Path, frozen) -> None:
    people = read(root / "ann", frozen, most=2, latents=True)
    assert people.names == ("ann",)
    assert people.features.mask.tolist() == [[True, True]]
    assert people.features.latents.shape == (1, 2, 4, 16, 16)
    together = read(root, frozen)
    torch.testing.assert_close(people.features.global_[0], together.features.global_[0, :2])


def test_a_person_without_a_face_is_one_clear_error(root: Path, make_encoder, frozen) -> None:
    (root / "cid").mkdir()
    (root / "cid" / "a.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"cid has no photo with one face \(a.png is not a pict"):
        read(root, frozen)
    (root / "cid" / "a.png").unlink()
    with pytest.raises(ValueError, match="cid has no photo with one face; add photos"):
        read(root, frozen)
    blind = make_encoder(minimum_score=0.999)
    with pytest.raises(ValueError, match=r"ann has no photo with one face \(0.png shows no face"):
        read_people(root, blind, NoMatting(), frozen.backbone, most=4)
    with pytest.raises(ValueError, match=r"faces=.*nowhere is not a folder"):
        read(root / "nowhere", frozen)


def test_each_face_is_matched_to_another_person() -> None:
    people = torch.eye(3)
    assert match(people[[2, 0, 1]], people) == [2, 0, 1]
    # Both faces look like the first person, and the first face more so.
    alike = torch.nn.functional.normalize(torch.tensor([[1.0, 0.1, 0], [1.0, 0.9, 0]]), dim=-1)
    assert match(alike, people) == [0, 1]
    assert match(alike.flip(0), people) == [1, 0]
    assert match(alike, people[:1]) == [0, None]
    assert match(alike[:1], people) == [0]
