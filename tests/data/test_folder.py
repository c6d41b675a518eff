"""Folders of photos: usable photos, photos left out with their reasons, refused folders."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from portraitlab.data.features import FeatureStore
from portraitlab.data.folder import FolderData
from portraitlab.data.photo import DecodedPhoto, UnusablePhoto
from portraitlab.data.portrait import FRAME_CENTRE, FRAME_SPREAD, cut_portrait
from portraitlab.method.select.random import RandomReference
from portraitlab.world.render import render_photo


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six identities with 4, 4, 4, 4, 8 and 9 rendered photos."""
    for identity, number in enumerate([4, 4, 4, 4, 8, 9]):
        folder = tmp_path / "photos" / f"person {identity}"
        folder.mkdir(parents=True)
        for photo in range(number):
            Image.fromarray(render_photo(identity, photo, 64).image).save(folder / f"{photo}.png")
    return tmp_path / "photos"


@pytest.fixture
def folder_data(root: Path, tmp_path: Path) -> Callable[..., FolderData]:
    def make(**settings: object) -> FolderData:
        usual = {"cache": str(tmp_path / "cache"), "root": str(root), "test_share": 0.3}
        return FolderData(**(usual | settings))  # type: ignore[arg-type]

    return make


def test_a_folder_is_read_split_and_scored(folder_data, frozen, caplog) -> None:
    with caplog.at_level(logging.INFO):
        data = folder_data()
        train, score = data.train_photos(frozen), data.score_photos(frozen)
    assert len(train.store) == 33
    assert score.identities == ("person 4", "person 5")
    assert train.identities == ("person 0", "person 1", "person 2", "person 3")
    assert "33 photos of 6 identities taken; left out: 0 photos, 0 identities" in caplog.text
    assert train.store.images([0]).shape == (1, 3, 32, 32)
    assert train.store.views([0]).shape == (1, 3, 64, 64)
    scoring = data.scoring_set(score, refs=4, select=RandomReference())
    assert {sample.identity for sample in scoring.samples} == set(score.identities)
    with pytest.raises(ValueError, match=r"refs=9 is too many: scoring needs"):
        data.scoring_set(score, refs=9, select=RandomReference())


def test_the_seed_draws_which_of_equals_are_held_out(folder_data, frozen) -> None:
    drawn = {
        folder_data(test_share=0.5, split_seed=seed).score_photos(frozen).identities
        for seed in range(8)
    }
    assert len(drawn) > 1
    assert all({"person 4", "person 5"} < set(identities) for identities in drawn)
    again = folder_data(test_share=0.5, split_seed=3).score_photos(frozen).identities
    assert again == folder_data(test_share=0.5, split_seed=3).score_photos(frozen).identities


def test_a_second_start_reads_nothing_again(folder_data, frozen, root, tmp_path) -> None:
    first = folder_data().train_photos(frozen)

    def forbidden(*_: object) -> None:
        raise AssertionError("a photo was looked at again")

    frozen.encoder.find = frozen.encoder.analyse = forbidden
    elsewhere = shutil.move(root, tmp_path / "moved")
    again = folder_data(root=str(elsewhere)).train_photos(frozen)
    assert again.store.key == first.store.key
    assert torch.equal(again.features.global_, first.features.global_)


def test_the_digest_is_of_what_the_photos_are_made_of(folder_data, root) -> None:
    digest = folder_data().digest()
    assert folder_data().digest() == digest
    photo = root / "person 0" / "0.png"
    for change in (
        lambda: photo.with_suffix(".txt").write_text("a caption"),
        lambda: Image.fromarray(render_photo(9, 0, 64).image).save(photo),
        photo.unlink,
    ):
        change()
        assert folder_data().digest() != digest
        digest = folder_data().digest()


def test_what_cannot_be_used_is_left_out_with_one_line_each(
    folder_data, frozen, root, caplog
) -> None:
    (root / "person 0" / "cut.png").write_bytes((root / "person 0" / "0.png").read_bytes()[:999])
    (root / "person 0" / "notes.doc").write_text("not a photo")
    (root / "person 0" / "empty.jpg").touch()
    (root / "person 0" / "gone.jpg").symlink_to(root / "nowhere.jpg")
    shutil.copy(root / "person 1" / "0.png", root / "person 0" / "twin.png")
    Image.fromarray(render_photo(0, 9, 64).image).resize((12, 12)).save(
        root / "person 0" / "small.png"
    )
    (root / "person 0" / "more").mkdir()
    (root / "person 0" / ".hidden").touch()
    (root / "alone").mkdir()
    Image.fromarray(render_photo(7, 0, 64).image).save(root / "alone" / "one.png")
    (root / "nobody").mkdir()
    (root / "list.csv").touch()
    expected = [
        "photo person 0/cut.png: cannot be read: ",
        "photo person 0/notes.doc: is not a picture, or a broken one",
        "photo person 0/empty.jpg: is an empty file",
        "photo person 0/gone.jpg: cannot be read: No such file",
        "photo person 0/small.png: its face is too small: a portrait of ",
        "photo person 1/0.png: is the same file as person 0/twin.png",
        "file person 0/more: is a folder inside an identity's folder",
        "identity alone: usable photos 1, needed 2",
        "identity nobody: usable photos 0, needed 2",
        "file list.csv: is outside the identity folders",
    ]
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            photos = folder_data().train_photos(frozen)
        lines = [message for message in caplog.messages if message.startswith("left out: ")]
        assert len(lines) == len(expected)
        for line in expected:
            assert sum(found.startswith(f"left out: {line}") for found in lines) == 1, line
        assert len(photos.store) == 33
        assert "33 photos of 6 identities taken" in caplog.text
        assert "left out: 6 photos, 2 identities, 2 others" in caplog.text


def test_a_disk_that_fails_for_a_moment_is_no_verdict_on_a_photo(
    folder_data, frozen, root, monkeypatch
) -> None:
    opened = Image.open

    def failing(path: Path, **given: object) -> Image.Image:
        if Path(path) == root / "person 3" / "1.png":
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return opened(path, **given)

    monkeypatch.setattr(Image, "open", failing)
    with pytest.raises(ValueError, match=r"person 3/1\.png cannot be read now: Stale file handle"):
        folder_data().train_photos(frozen)
    monkeypatch.undo()
    assert len(folder_data().train_photos(frozen).store) == 33


def test_captions_stand_beside_their_photos(folder_data, frozen, root) -> None:
    (root / "person 2" / "1.txt").write_text("a photo of a person in a red hat\n")
    store = folder_data(caption="somebody").train_photos(frozen).store
    captions = [
        caption
        for identity, name, caption in zip(store.identity, store.name, store.caption, strict=True)
        if (identity, name) == ("person 2", "1.png")
    ]
    assert captions == ["a photo of a person in a red hat"]
    assert store.caption.count("somebody") == 32


def test_a_bad_caption_costs_its_own_photo_alone(folder_data, frozen, root, caplog) -> None:
    (root / "person 2" / "1.txt").write_bytes(b"\xff\xfe\x00")
    assert len(folder_data().train_photos(frozen).store) == 32
    assert "left out: photo person 2/1.png: its caption 1.txt is not UTF-8" in caplog.text


def test_photos_of_extreme_shapes_cost_no_other_photo(folder_data, frozen, root, caplog) -> None:
    shapes = [(1, 1), (1, 3000), (3000, 1), (2, 100)]
    for width, height in shapes:
        Image.new("RGB", (width, height)).save(root / "person 0" / f"{width}x{height}.png")
    assert len(folder_data().train_photos(frozen).store) == 33
    for width, height in shapes:
        assert f"left out: photo person 0/{width}x{height}.png: " in caplog.text


def test_references_that_do_not_fit_are_refused_before_anything_is_encoded(
    folder_data, frozen, monkeypatch
) -> None:
    monkeypatch.setattr(FeatureStore, "cached", lambda *_: pytest.fail("photos were encoded"))
    data = folder_data()
    assert data.counts(frozen) == ([4, 4, 4, 4], [8, 9])
    for refs, score_refs, message in (
        (4, 4, r"refs=4 is .* with 5 photos, and the 4 to train on have 4 to 4; .*Choose refs=3,"),
        (3, 8, r"score_refs=8 is .* with 10 .* the 2 held out have 8 to 9\. Choose score_refs=7,"),
        (9, 9, r"refs=9 is .*Choose refs=3, or add photos\."),
    ):
        with pytest.raises(ValueError, match=message):
            data.check_refs(frozen, refs, score_refs)
    data.check_refs(frozen, 3, 7)
    data.check_refs(frozen, 4, 7, beside=0)


def test_a_set_in_parts_names_the_part_to_give(folder_data, frozen, root) -> None:
    data = folder_data(root=str(root.parent))
    with pytest.raises(ValueError, match=f"holds no photos in identity folders; give {root}"):
        data.train_photos(frozen)


def test_a_photo_without_a_face_is_left_out(
    folder_data, frozen, make_encoder, tmp_path, caplog
) -> None:
    blind = type(frozen)(make_encoder(minimum_score=1.0), frozen.backbone, frozen.recogniser)
    match = r"has 0 identities with two usable photos and needs two.*39, first photo .*no face"
    with pytest.raises(ValueError, match=match):
        folder_data().train_photos(blind)
    assert "left out: photo person 3/2.png: shows no face" in caplog.text
    assert list((tmp_path / "cache" / "photos").glob("*/")) == []


def test_folders_without_photos_are_refused(folder_data, frozen, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"data\.root=.*nowhere is not a folder"):
        folder_data(root=str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        ValueError, match=r"holds no photos in identity folders.*<identity>/<photo>"
    ):
        folder_data(root=str(tmp_path / "empty")).train_photos(frozen)
    with pytest.raises(
        ValueError, match=r"data\.test_share=1\.5: a number above 0 and below 1 is needed"
    ):
        folder_data(test_share=1.5)


def test_portraits_are_framed_alike_whatever_the_photo() -> None:
    rendered = render_photo(1, 1, 128)
    keypoints = rendered.keypoints.astype(np.float32)
    wide = np.zeros((200, 400, 3), np.uint8)
    wide[30:158, 250:378] = rendered.image
    placed = (keypoints * 128 + [250, 30]) / [400, 200]
    photo = DecodedPhoto(wide, np.ones(wide.shape[:2], bool))
    portrait = cut_portrait(photo, placed.astype(np.float32), minimum=32)
    side = len(portrait.pixels)
    points = placed * [400, 200]
    spread = np.sqrt(np.square(points - points.mean(0)).sum(1).mean())
    assert spread / side == pytest.approx(FRAME_SPREAD, rel=0.01)
    corner = points.mean(0) - np.array(FRAME_CENTRE) * side
    left, top = np.round(corner).astype(int)
    expected = wide[top : top + side, left : left + side]
    np.testing.assert_array_equal(portrait.pixels[: len(expected)], expected)
    assert portrait.resized(64).shape == (64, 64, 3)


def test_beyond_the_photo_there_is_no_person() -> None:
    rendered = render_photo(1, 1, 128)
    keypoints = rendered.keypoints.astype(np.float32)
    half = DecodedPhoto(rendered.image[:, 40:], np.ones((128, 88), bool))
    moved = (keypoints * 128 - [40, 0]) / [88, 128]
    portrait = cut_portrait(half, moved.astype(np.float32), minimum=32)
    beyond = ~portrait.person_mask.any(axis=0)
    assert beyond[0]
    assert not beyond[len(beyond) // 2]
    with pytest.raises(UnusablePhoto, match="its face is too small"):
        cut_portrait(half, moved.astype(np.float32), minimum=1000)
