"""Photos added later: a store takes them, and training sees no difference."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from prepared_photos import contents

from portraitlab.data.batches import TrainingBatches
from portraitlab.data.prepare.part import StorePart
from portraitlab.data.prepare.prepare import PrepareOptions, prepare
from portraitlab.data.prepared import PreparedData, PreparedPhotos
from portraitlab.faces.matting.none import NoMatting
from portraitlab.world.render import render_photo

OPTIONS = PrepareOptions(
    caption="a photo of a person", minimum_side=32, precision="float32", shard=3, batch=2
)
LATE = ("person 0/1.png", "person 1/0.png", "person 1/3.png", "person 2/4.png")


@pytest.fixture
def whole(sound, tmp_path) -> Path:
    """Three identities with 4, 5 and 6 photos."""
    root = tmp_path / "whole"
    for person in range(3):
        shutil.copytree(sound / f"person {person}", root / f"person {person}")
    return root


@pytest.fixture
def root(whole, tmp_path) -> Path:
    """Return the folder without the photos added later: some of each identity, and person 1a."""
    root = Path(shutil.copytree(whole, tmp_path / "root"))
    for name in LATE:
        (root / name).unlink()
        (root / name).with_suffix(".txt").unlink(missing_ok=True)
    return root


@pytest.fixture
def add(whole, root):
    """Add the late photos, and an identity whose name sorts between the others."""

    def come() -> None:
        for folder in (whole, root):
            (folder / "person 1a").mkdir()
            for photo in range(2):
                image = Image.fromarray(render_photo(8, photo, 64).image)
                image.save(folder / "person 1a" / f"{photo}.png")
        for file in whole.rglob("*.*"):
            shutil.copy(file, root / file.relative_to(whole))

    return come


@pytest.fixture
def make(root, tmp_path, frozen):
    def run(out: str = "out", part: str = "1/1", root: Path = root):
        made = tmp_path / out
        return prepare(
            root, made, frozen, NoMatting(), OPTIONS, workers=0, part=StorePart.parse(part)
        )

    return run


@pytest.fixture
def searches(frozen) -> Iterator[list[int]]:
    """A list that grows with every photo or view in which a face is detected."""
    found, find = [], frozen.encoder.find
    frozen.encoder.find = lambda photo: (found.append(1), find(photo))[1]
    yield found
    del frozen.encoder.find


def equal_photos(ours: PreparedPhotos, theirs: PreparedPhotos) -> None:
    rows = torch.arange(len(theirs))
    assert len(ours) == len(theirs)
    assert ours.owners()[0] == theirs.owners()[0]
    assert ours.owners()[1].tolist() == theirs.owners()[1].tolist()
    for name in ("identity", "name", "caption"):
        assert [*getattr(ours, name)] == [*getattr(theirs, name)]
    for name in ("images", "views", "person_masks"):
        assert torch.equal(getattr(ours, name)(rows), getattr(theirs, name)(rows))


def test_training_sees_an_extended_store_as_one_that_was_made_at_once(
    make, add, whole, frozen, searches, tmp_path
) -> None:
    assert make()["photos"] == 11
    before = contents(tmp_path / "out")
    add()
    searches.clear()
    assert make()["photos"] == 17
    assert len(searches) == 2 * 6  # only the late photos
    after = contents(tmp_path / "out")
    kept = {name for name in before if name.startswith(("plan", "photos/", "captions/"))}
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    finished = make("at once", root=whole)
    assert finished["photos"] == 17
    ours, theirs = PreparedPhotos(tmp_path / "out"), PreparedPhotos(tmp_path / "at once")
    equal_photos(ours, theirs)
    assert ours.owners()[0] == ["person 0", "person 1", "person 1a", "person 2"]
    stores = [PreparedData(str(tmp_path / name), test_share=0.3) for name in ("out", "at once")]
    one, two = (store.train_photos(frozen) for store in stores)
    assert one.identities == two.identities
    assert len({store.score_photos(frozen).identities for store in stores}) == 1
    for order in ("shuffled", "balanced"):
        ours_drawn, theirs_drawn = (
            TrainingBatches(photos, refs=3, batch_size=8, steps=3, seed=1, order=order)
            for photos in (one, two)
        )
        for step in range(3):
            a, b = ours_drawn[step], theirs_drawn[step]
            assert torch.equal(a.target_index, b.target_index)
            assert torch.equal(a.references.mask, b.references.mask)
            assert torch.equal(ours_drawn.pairs(step), theirs_drawn.pairs(step))
            # Batches differ, which changes the last digits.
            torch.testing.assert_close(a.latents, b.latents)
            torch.testing.assert_close(a.text.words, b.text.words)
            torch.testing.assert_close(a.references.local_, b.references.local_, atol=2e-3, rtol=0)
            torch.testing.assert_close(a.identity, b.identity)


def test_an_unfinished_store_takes_late_photos_too_in_any_parts(make, add, root, tmp_path) -> None:
    assert make(part="1/2") is None
    shutil.copytree(tmp_path / "out", tmp_path / "in parts")
    add()
    finished = make()
    assert finished["photos"] == 17
    assert make("in parts", "3/3") is None
    assert make("in parts", "1/3") is None
    assert make("in parts", "2/3") == finished
    assert contents(tmp_path / "in parts") == contents(tmp_path / "out")


def test_what_was_finished_is_trained_on_until_the_late_photos_are_there(
    make, add, tmp_path
) -> None:
    make()
    shutil.copytree(tmp_path / "out", tmp_path / "before")
    add()
    assert make(part="2/2") is None
    before = PreparedPhotos(tmp_path / "before")
    equal_photos(PreparedPhotos(tmp_path / "out"), before)
    assert PreparedPhotos(tmp_path / "out").digest() == before.digest()
    assert make(part="1/2")["photos"] == 17
    assert len(PreparedPhotos(tmp_path / "out")) == 17
    assert PreparedPhotos(tmp_path / "out").digest() != before.digest()


def test_problems_are_those_of_the_folder_as_it_is_now(make, root, tmp_path) -> None:
    person = root / "person 0"
    twin = (person / "2.png").read_bytes()
    (person / "late.txt").write_text("a caption that comes first")
    (person / "0.txt").write_bytes(b"\xff")
    assert make()["problems"] == 2
    Image.fromarray(render_photo(0, 9, 64).image).save(person / "late.png")
    (person / "0.txt").write_text("a caption in UTF-8")
    (person / "00 twin.png").write_bytes(twin)
    finished = make()
    assert (finished["photos"], finished["problems"]) == (12, 1)
    lines = (tmp_path / "out" / "problems.txt").read_text().splitlines()
    assert lines == ["photo person 0/00 twin.png: is the same file as person 0/2.png"]
    stored = PreparedPhotos(tmp_path / "out")
    assert [*stored.name][:4] == ["0.png", "2.png", "3.png", "late.png"]
    captions = [*stored.caption]
    assert (captions[0], captions[3]) == ("a caption in UTF-8", "a caption that comes first")


def test_photos_that_were_changed_or_removed_are_refused_and_nothing_is_touched(
    make, add, root, tmp_path
) -> None:
    make()
    add()
    before = contents(tmp_path / "out")
    photo = root / "person 2" / "0.png"
    whole = photo.read_bytes()
    for change in (lambda: photo.write_bytes(whole + b"more"), photo.unlink):
        change()
        with pytest.raises(ValueError, match=r"person 2/0\.png was changed or removed since it"):
            make()
        photo.write_bytes(whole)
    (root / "person 2").rename(root / "person 7")
    with pytest.raises(ValueError, match=r"root/person 2 was changed or removed since it was"):
        make()
    kept = contents(tmp_path / "out")
    assert {name: kept[name] for name in kept if "unfinished-" not in name} == before
