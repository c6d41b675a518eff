"""Prepared photos: stored columns, photos left out, refused input, and resuming after a kill."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from PIL import Image
from placed import ROOT
from prepared_photos import contents

from portraitlab.data import heldout
from portraitlab.data.folder import FolderData
from portraitlab.data.prepare.layout import training_overrides
from portraitlab.data.prepare.listing import Problem
from portraitlab.data.prepare.prepare import PrepareOptions, prepare
from portraitlab.data.prepare.reading import reading
from portraitlab.data.prepared import PreparedData, PreparedPhotos
from portraitlab.data.schema import CAPTIONS, PHOTOS
from portraitlab.data.shards import FORMAT, Shard
from portraitlab.faces.encoder.face_encoder import FaceEncoder
from portraitlab.faces.matting.none import NoMatting
from portraitlab.support.files import write_json
from portraitlab.world.render import render_photo

OPTIONS = PrepareOptions(
    caption="a photo of a person", minimum_side=32, precision="float32", shard=5, batch=2
)


@pytest.fixture
def root(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "photos"))


@pytest.fixture
def make(root: Path, tmp_path: Path, frozen) -> Callable[..., dict]:
    def run(out: str = "out", **changes) -> dict:
        given = {
            "root": root,
            "frozen": frozen,
            "matting": NoMatting(),
            "options": OPTIONS,
            "workers": 0,
        }
        return prepare(**(given | changes), out=tmp_path / out)

    return run


def forbid(encoder: FaceEncoder) -> None:
    """Make a face encoder fail if it is used."""

    def forbidden(*_: object) -> None:
        raise AssertionError("a photo was looked at again")

    encoder.find = encoder.analyse = encoder.encode = forbidden


def test_opening_a_store_takes_no_time_squared_by_its_people(
    make, frozen, tmp_path, monkeypatch
) -> None:
    make()
    walked = []

    class Counted(tuple):
        def __iter__(self) -> Iterator[str]:
            walked.append(self)
            return super().__iter__()

    monkeypatch.setattr(heldout, "held_out", lambda usable, *_: Counted([min(usable)]))
    kept = PreparedData(str(tmp_path / "out")).train_photos(frozen).identities
    assert (len(kept), len(walked)) == (3, 1)


def test_what_is_stored_is_what_a_folder_gives(make, root, frozen, tmp_path) -> None:
    finished = make()
    assert (finished["photos"], finished["identities"], finished["problems"]) == (22, 4, 0)
    prepared = PreparedData(str(tmp_path / "out"), test_share=0.3)
    folder = FolderData(str(tmp_path / "cache"), str(root), test_share=0.3)
    for kind in ("train_photos", "score_photos"):
        ours, theirs = getattr(prepared, kind)(frozen), getattr(folder, kind)(frozen)
        assert ours.identities == theirs.identities
        assert ours.rows() == theirs.rows()
        one, two = ours.store, theirs.store
        for name in ("identity", "name", "caption"):
            assert [*getattr(one, name)] == [*getattr(two, name)]
        rows = torch.tensor([21, 0, 7, 7, 4])
        assert torch.equal(one.images(rows), two.images(rows))
        assert torch.equal(one.views(rows), two.views(rows))
        assert torch.equal(one.person_masks(rows), two.person_masks(rows))
        table = torch.stack([rows, rows.flip(0)])
        for name in ("latents", "person", "local", "global_", "identity", "caption_index"):
            got, expected = getattr(ours.features, name)[table], getattr(theirs.features, name)
            if name != "caption_index":
                torch.testing.assert_close(got, expected[table].float(), atol=1e-3, rtol=1e-3)
        geometry, expected = ours.features.geometry[table], theirs.features.geometry[table]
        torch.testing.assert_close(geometry.keypoints, expected.keypoints, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(vars(geometry.coefficients), vars(expected.coefficients),
                                   atol=1e-4, rtol=1e-4)  # fmt: skip
        torch.testing.assert_close(ours.features.text(rows).words, theirs.features.text(rows).words)
        empty = theirs.features.empty_text.words
        torch.testing.assert_close(ours.features.empty_text.words, empty)


def test_the_columns_are_those_that_are_documented(make, tmp_path) -> None:
    make(options=replace(OPTIONS, precision="float16"))
    kinds = dict(Shard(tmp_path / "out" / "photos" / "000000.arrow").columns)
    tensor = pa.fixed_shape_tensor
    half, single = pa.float16(), pa.float32()
    latents, person, keypoints = (kinds.pop(name) for name in ("latents", "person", "keypoints"))
    assert latents == tensor(half, [4, 16, 16])
    assert person == tensor(half, [1, 16, 16])
    assert keypoints == tensor(single, [5, 2])
    assert kinds.pop("local").value_type == half
    assert kinds.pop("score") == single
    for name in ("global", "recogniser", "shape", "expression", "pose"):
        assert kinds.pop(name).value_type == single
    assert kinds == {
        "identity": pa.string(),
        "name": pa.string(),
        "digest": pa.binary(32),
        "caption": pa.int64(),
        "image": pa.large_binary(),
        "view": pa.large_binary(),
        "person_mask": pa.large_binary(),
        "face_mask": pa.large_binary(),
    }
    captions = Shard(tmp_path / "out" / "captions" / "000000.arrow")
    assert captions.checked("caption")[0].as_py() == ""
    assert captions.columns["text"] == tensor(half, [8, 16])
    names, owner = PreparedPhotos(tmp_path / "out").owners()
    assert names == [f"person {number}" for number in range(4)]
    assert owner.tolist() == [0] * 4 + [1] * 5 + [2] * 6 + [3] * 7


def test_the_page_has_every_column_of_the_schema_and_no_other(make, photos, tmp_path) -> None:
    make(options=replace(OPTIONS, precision="float16"))
    page = (ROOT / "docs" / "data.md").read_text()
    words = {
        "halffloat": "float16", "float": "float32", "large_binary": "PNG",
        "fixed_size_binary[32]": "binary",
    }  # fmt: skip
    rendered = photos.store.table.shards[0]
    for kind, schema in (("photos", PHOTOS), ("captions", CAPTIONS)):
        table = page[page.index(f"### {kind}") :].partition("| --- ")[2].partition("\n\n")[0]
        documented = re.findall(r"^\| `(\w+)` \| (\w+)[^|]* \|([^|]*)\|", table, re.MULTILINE)
        assert [name for name, _, _ in documented if name in schema] == [*schema]
        assert {name: shape.strip() for name, _, shape in documented if name in schema} == {
            name: column.shape for name, column in schema.items()
        }
        types = Shard(tmp_path / "out" / kind / "000000.arrow").columns
        assert {name for name, column in schema.items() if not column.optional} <= set(types)
        types = {**(rendered.columns if kind == "photos" else {}), **types}
        stored = {name: str(getattr(type_, "value_type", type_)) for name, type_ in types.items()}
        known = {name: word for name, word, _ in documented}
        assert {name: words.get(type_, type_) for name, type_ in stored.items()} == {
            name: known[name] for name in stored
        }


def test_several_processes_store_the_same_bytes(make, tmp_path) -> None:
    make("alone")
    make("together", workers=2)
    alone, together = contents(tmp_path / "alone"), contents(tmp_path / "together")
    assert alone == together


def test_unusable_photos_are_reported_and_the_rest_is_stored(make, root, frozen, tmp_path) -> None:
    person = root / "person 0"
    (person / "cut.png").write_bytes((person / "0.png").read_bytes()[:999])
    (person / "0.txt").write_bytes(b"\xff\xfe\x00")
    (person / "gone.jpg").symlink_to(root / "nowhere.jpg")
    os.mkfifo(person / "pipe.jpg")
    (person / "lost.txt").write_text("of no photo")
    shutil.copy(person / "1.png", root / "person 1" / "twin.png")
    (root / "alone").mkdir()
    Image.fromarray(render_photo(7, 0, 64).image).save(root / "alone" / "one.png")
    (root / "empty").mkdir()
    (root / "list.csv").touch()
    finished = make()
    lines = (tmp_path / "out" / "problems.txt").read_text().splitlines()
    expected = [
        "file list.csv: is outside the identity folders",
        "file person 0/pipe.jpg: is neither a file nor a folder",
        "file person 0/lost.txt: is a caption without a photo",
        "photo person 0/0.png: its caption 0.txt is not UTF-8",
        "photo person 0/gone.jpg: cannot be read: No such file or directory",
        "photo person 0/cut.png: cannot be read: ",
        "photo person 1/twin.png: is the same file as person 0/1.png",
        "identity alone: usable photos 1, needed 2 (a target and a reference)",
        "identity empty: usable photos 0, needed 2 (a target and a reference)",
    ]
    assert len(lines) == len(expected)
    for found, line in zip(lines, expected, strict=True):
        assert found.startswith(line)
    assert (finished["photos"], finished["identities"]) == (22, 4)
    assert finished["problems"] == len(expected)
    photos = PreparedPhotos(tmp_path / "out")
    assert photos.owners()[0] == ["alone", *(f"person {number}" for number in range(4))]
    data = PreparedData(str(tmp_path / "out"))
    assert "alone" not in data.all_photos(frozen).identities


def test_a_finished_store_is_not_looked_into_again(make, frozen, tmp_path) -> None:
    first = make()
    before = contents(tmp_path / "out")
    forbid(frozen.encoder)
    assert make() == first
    assert contents(tmp_path / "out") == before


def test_only_a_damaged_or_half_written_piece_is_made_again(make, tmp_path) -> None:
    make("whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "out")
    out = tmp_path / "out"
    whole = contents(tmp_path / "whole")
    kept = (out / "photos" / "000003.arrow").stat().st_mtime_ns
    (out / "photos" / "000000.arrow").unlink()
    (out / "captions" / "000001.arrow").unlink()
    (out / "photos" / "000001.arrow").write_bytes(whole["photos/000001.arrow"][:500])
    (out / "photos" / "unfinished-000002.arrow").write_bytes(b"torn")
    (out / "finished.json").unlink()
    make()
    again = contents(out)
    assert again.pop("photos/unfinished-000002.arrow") == b"torn"
    assert again == whole
    assert (out / "photos" / "000003.arrow").stat().st_mtime_ns == kept


def test_other_settings_and_weights_are_refused(make, root, frozen, make_encoder, tmp_path) -> None:
    make()
    match = (
        r"other settings: --shard was 5 and is 6; --batch .*Use those \(--shard 5 --batch 2\), or"
    )
    with pytest.raises(ValueError, match=match):
        make(options=replace(OPTIONS, shard=6, batch=3))
    other = replace(frozen, encoder=make_encoder(seed=1))
    with pytest.raises(ValueError, match=r"other settings: encoder was world 0\.5.* and is world"):
        make(frozen=other)
    with pytest.raises(ValueError, match=r"prepared with another encoder, by the default choices"):
        PreparedData(str(tmp_path / "out")).train_photos(other)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"full is not empty and holds no prepared photos"):
        make("full")
    with pytest.raises(ValueError, match=r"nowhere is not a folder"):
        make(root=root / "nowhere")
    (tmp_path / "nobody").mkdir()
    with pytest.raises(ValueError, match=r"nobody holds no photos in identity folders"):
        make("none", root=tmp_path / "nobody")
    assert not [*tmp_path.glob("*none*")]


def test_training_is_given_what_the_photos_were_taken_with_but_where_and_captions() -> None:
    same = ["scale=smoke", "data.minimum_side=64", "matting=onnx", "trainer=gpu"]
    taken = ["data=folder", *same, "data.caption=a", "data.test_share=0.5"]
    assert training_overrides(taken) == same


def test_photos_of_another_least_size_are_refused(make, frozen, tmp_path) -> None:
    make()
    with pytest.raises(ValueError, match=r"was prepared with another minimum_side, by"):
        PreparedData(str(tmp_path / "out"), minimum_side=64).train_photos(frozen)


def test_where_a_store_cannot_lie_is_said_before_anything_is_written(make, root, tmp_path) -> None:
    (tmp_path / "link").symlink_to(root)
    before = sorted(tmp_path.rglob("*"))
    for place in ("photos", "photos/store", "link/person 0/store"):
        with pytest.raises(ValueError, match=r"is in .*photos, whose folders are .* outside of"):
            make(place)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"file is a file; give a new or an empty folder"):
        make("file")
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "file"])


def test_a_photo_that_was_changed_meanwhile_is_refused(make, root, tmp_path) -> None:
    make()
    out = tmp_path / "out"
    (out / "photos" / "000004.arrow").unlink()
    photo = root / "person 3" / "6.png"
    whole = photo.read_bytes()
    photo.write_bytes(whole[:-1] + b"!")  # of the same size: noticed when it is read
    with pytest.raises(ValueError, match=r"person 3/6\.png was changed or removed since it was"):
        make()
    photo.write_bytes(whole)
    assert make()["photos"] == 22


@pytest.mark.parametrize("step", ["open", "load"])
def test_a_disk_that_fails_for_a_moment_is_no_verdict_on_a_photo(
    make, root, tmp_path, monkeypatch, step
) -> None:
    def failed() -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    opened = Image.open

    def failing(path: Path, **given: object) -> Image.Image:
        picture = opened(path, **given)
        if Path(path) == root / "person 3" / "1.png":
            picture.load = failed
            if step == "open":
                failed()
        return picture

    monkeypatch.setattr(Image, "open", failing)
    match = r"person 3/1\.png cannot be read now: Stale file handle\. Once .* same command again"
    with pytest.raises(ValueError, match=match):
        make()
    monkeypatch.undo()
    finished = make()
    assert (finished["photos"], finished["problems"]) == (22, 0)


def test_without_its_plan_a_store_is_refused(make, tmp_path) -> None:
    make()
    listing = tmp_path / "out" / "plan" / "000000.arrow"
    whole = listing.read_bytes()
    listing.write_bytes(whole[:-9])
    with pytest.raises(ValueError, match=r"plan/000000\.arrow is missing or damaged"):
        make()
    listing.unlink()
    with pytest.raises(ValueError, match=r"/plan is missing or damaged.*into another folder"):
        make()
    listing.with_name("000001.arrow").write_bytes(whole)
    with pytest.raises(ValueError, match=r"plan/000000\.arrow is missing or damaged"):
        make()


def test_numbers_that_half_precision_cannot_hold_are_refused(make, frozen) -> None:
    frozen.backbone.latent_scale.fill_(1e9)
    with pytest.raises(ValueError, match=r"latents has numbers .* not finite in float16.*=float32"):
        make(options=replace(OPTIONS, precision="float16"))


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"--shard=0: a whole number from 1 is needed"):
        replace(OPTIONS, shard=0)
    with pytest.raises(ValueError, match=r"--precision=int8: choose one of float16, float32"):
        replace(OPTIONS, precision="int8")


def test_a_store_that_cannot_be_read_is_refused_with_the_remedy(make, tmp_path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=r"holds no prepared photos.*portraitlab data prepare"):
        PreparedData(str(out))
    make()
    (shard := out / "photos" / "000001.arrow").write_bytes(shard.read_bytes()[:400])
    with pytest.raises(ValueError, match=r"000001\.arrow cannot be read.*same command"):
        PreparedData(str(out))
    shard.unlink()
    with pytest.raises(ValueError, match=r"000001\.arrow is missing.*same command"):
        PreparedData(str(out))
    make()
    shutil.copy(out / "photos" / "000004.arrow", shard)
    with pytest.raises(ValueError, match=r"has 19 photos, not 22\..*a file is of another one"):
        PreparedData(str(out))
    shard.unlink()
    make()
    (out / "captions" / "000000.arrow").unlink()
    with pytest.raises(ValueError, match=r"captions/000000\.arrow is missing.*same command"):
        PreparedData(str(out))
    (finished := out / "finished.json").unlink()
    with pytest.raises(ValueError, match=r"not all prepared yet.*again to resume"):
        PreparedData(str(out))
    make()
    assert len(PreparedPhotos(out)) == 22
    about = json.loads((out / "about.json").read_text())
    for settings in (about["settings"] | {"size": 64}, []):
        (out / "about.json").write_text(json.dumps(about | {"settings": settings}))
        with pytest.raises(ValueError, match=r"about\.json is damaged.*; prepare the photos again"):
            PreparedData(str(out))
    write_json(out / "about.json", about | {"format": 9}, summed=True)
    with pytest.raises(ValueError, match=rf"has format 9, and {FORMAT} is read"):
        PreparedData(str(out))
    assert finished.is_file()


def test_a_shard_says_what_was_left_out_of_it_also_where_that_is_all(make, root, tmp_path) -> None:
    for photo in (root / "person 0").glob("*.png"):
        photo.write_bytes(b"no picture")
    finished = make(options=replace(OPTIONS, shard=2))
    assert (finished["photos"], finished["identities"]) == (18, 3)
    shard = Shard(tmp_path / "out" / "photos" / "000000.arrow")
    assert shard.rows == 0
    assert [str(Problem(**problem)) for problem in shard.about["problems"]] == [
        "photo person 0/0.png: is not a picture, or a broken one",
        "photo person 0/1.png: is the same file as person 0/0.png",
    ]
    assert len(PreparedPhotos(tmp_path / "out")) == 18


def test_memory_does_not_grow_with_the_number_of_photos(make, frozen, tmp_path) -> None:
    """Check with photos of 400 kB that memory is bounded by a shard and the photos read ahead."""
    small, large = tmp_path / "small", tmp_path / "large"
    for folder, number in ((small, 8), (large, 32)):
        for photo in range(number):
            person = folder / f"person {photo % 2}"
            person.mkdir(parents=True, exist_ok=True)
            seen = Image.fromarray(render_photo(photo % 2, photo, 64).image).resize((360, 360))
            seen.save(person / f"{photo}.bmp")

    def peak(root: Path) -> int:
        tracemalloc.start()
        try:
            assert make(f"out of {root.name}", root=root)["photos"] > 6
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(small)  # imports and caches count once
    shutil.rmtree(tmp_path / "out of small")
    assert peak(large) < peak(small) + 400_000


def test_a_process_that_dies_is_explained() -> None:
    match = r"A process that reads photos was killed.*fewer --workers"
    with reading(1) as apply, pytest.raises(ValueError, match=match):
        list(apply(os._exit, [3]))
