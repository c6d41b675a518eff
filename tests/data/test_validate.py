"""`portraitlab data validate`: counts, every problem with its file, exit codes; no model."""

from __future__ import annotations

import codecs
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from placed import REAL

from portraitlab.app.cli.main import main
from portraitlab.data.prepare.listing import (
    BadCaption,
    Problem,
    caption_of,
    list_identity,
    name_problem,
    no_photos,
)
from portraitlab.data.prepare.validate import first_of_each, validate


def write_photo(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three sound identities with 2, 2 and 3 photos, one of which has a caption."""
    root = tmp_path / "photos"
    for seed, (identity, number) in enumerate((("anna", 2), ("bruno", 2), ("carl", 3))):
        for photo in range(number):
            write_photo(root / identity / f"{photo}.png", 100 + 10 * seed + photo)
    (root / "carl" / "1.txt").write_text("a photo of a person in a coat")
    return root


def spoil(root: Path) -> list[str]:
    """Put one problem of each kind into a folder; return the lines expected for them."""
    anna = root / "anna"
    whole = (anna / "0.png").read_bytes()
    (anna / "cut.png").write_bytes(whole[:-40])
    (anna / "empty.jpg").touch()
    (anna / "notes.doc").write_text("not a photo")
    Image.fromarray(np.zeros((4, 4), np.float32)).save(anna / "float.tiff")
    (anna / "gone.jpg").symlink_to(root / "nowhere.jpg")
    (anna / "pointer.jpg").write_text("version https://git-lfs.github.com/spec/v1\n")
    shutil.copy(anna / "0.png", root / "bruno" / "twin.png")
    (root / "bruno" / "0.txt").write_bytes(b"\xff\xfe\x00")
    (root / "bruno" / "nothing.txt").write_text("of no photo")
    (root / "bruno" / "more").mkdir()
    os.mkfifo(root / "bruno" / "pipe.jpg")
    os.mkfifo(root / "bruno" / "pipe.txt")
    write_photo(root / "carl" / "1.jpg", 5)
    write_photo(root / "carl" / " 9.png", 6)
    write_photo(root / "carl" / "a\nb.png", 7)
    write_photo(root / "carl" / "X.png", 8)
    write_photo(root / "carl" / "x.png", 9)
    write_photo(root / "dora" / "0.png", 10)
    (root / "nobody").mkdir()
    (root / "list.csv").touch()
    return [
        "photo anna/cut.png: cannot be read: ",
        "photo anna/empty.jpg: is an empty file",
        "photo anna/notes.doc: is not a picture, or a broken one",
        "photo anna/float.tiff: cannot be read: its pixels are floating-point numbers",
        "photo anna/gone.jpg: cannot be read: No such file",
        "photo anna/pointer.jpg: is a Git LFS pointer",
        "photo bruno/twin.png: is the same file as anna/0.png",
        "photo bruno/0.png: its caption 0.txt is not UTF-8",
        "file bruno/nothing.txt: is a caption without a photo",
        "file bruno/more: is a folder inside an identity's folder",
        "file bruno/pipe.jpg: is neither a file nor a folder",
        "file bruno/pipe.txt: is neither a file nor a folder",
        "photo carl/1.png: shares its caption 1.txt with 1.jpg",
        "photo carl/ 9.png: has a name that begins or ends with a space",
        "photo carl/a\\nb.png: has a name with a control character",
        "photo carl/x.png: has the same name as X.png on many disks",
        "identity dora: usable photos 1, needed 2",
        "identity nobody: usable photos 0, needed 2",
        "file list.csv: is outside the identity folders",
    ]


def test_a_sound_folder_has_its_counts_and_no_problem(root: Path, capsys) -> None:
    assert main(["data", "validate", str(root), "--workers", "0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{root}: 3 identities, 7 files in them"
    assert lines[1] == "photos: 7 can be read, 1 have a caption of their own"
    assert lines[2] == "photos of an identity: 2 to 3, median 2"
    assert [line.split() for line in lines[3:5]] == [
        ["2", "photos:", "2", "identities"],
        ["3", "photos:", "1", "identities"],
    ]
    assert lines[5:] == ["problems: 0"]


def test_every_problem_is_one_line_with_its_file(root: Path, capsys) -> None:
    expected = spoil(root)
    assert main(["data", "validate", str(root), "--workers", "0"]) == 1
    out = capsys.readouterr().out
    lines = out.splitlines()
    reported = lines[lines.index(f"problems: {len(expected)}") + 1 :]
    assert len(reported) == len(expected)
    for line in expected:
        assert sum(found.startswith(line) for found in reported) == 1, (line, reported)


def test_processes_find_what_one_finds_and_json_says_the_same(root: Path, capsys) -> None:
    spoil(root)
    alone = validate(root, workers=0)
    assert main(["data", "validate", str(root), "--format", "json", "--workers", "2"]) == 1
    content = json.loads(capsys.readouterr().out)
    assert content == alone.content()
    assert content["identities"] == 5
    assert content["photos_per_identity"] == {"0": 1, "1": 1, "2": 2, "8": 1}
    problem = {"kind": "photo", "name": "anna/empty.jpg", "problem": "is an empty file"}
    assert problem in content["problems"]


def test_a_missing_folder_is_refused(tmp_path: Path, capsys) -> None:
    assert main(["data", "validate", str(tmp_path / "nowhere")]) == 1
    assert "nowhere is not a folder; give a folder" in capsys.readouterr().err
    assert main(["data", "validate", str(tmp_path), "--workers", "-1"]) == 1
    assert "--workers=-1: a whole number from 0 is needed" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["nothing", "people"])
def test_a_folder_without_photos_is_a_problem(tmp_path: Path, capsys, content: str) -> None:
    (tmp_path / "all").mkdir()
    if content == "people":
        (tmp_path / "all" / "anna").mkdir()
        (tmp_path / "all" / "anna" / "0.txt").touch()
    assert main(["data", "validate", str(tmp_path / "all"), "--workers", "0"]) == 1
    line = f"folder {tmp_path / 'all'}: holds no photos in identity folders; put them as <identity>"
    out = capsys.readouterr().out
    assert out.count(line) == 1
    assert f"problems: {1 if content == 'nothing' else 3}\n" in out


def test_a_set_in_parts_is_one_line_for_each_part(root: Path, tmp_path: Path, capsys) -> None:
    place = tmp_path / "outer" / "set"
    for part in ("train", "val"):
        shutil.copytree(root, place / part)
    assert main(["data", "validate", str(place), "--workers", "0"]) == 1
    lines = capsys.readouterr().out.splitlines()
    text = "holds folders, not photos; if each is a person, give"
    assert lines[lines.index("problems: 2") + 1 :] == [
        f"identity {part}: {text} {place / part}" for part in ("train", "val")
    ]
    assert no_photos(place) == f"holds no photos in identity folders; give {place / 'train'}"
    assert no_photos(tmp_path / "outer").endswith(f"give {place / 'train'}")


def test_sidecars_of_other_programs_are_counted_apart(root: Path, capsys) -> None:
    for photo in sorted((root / "anna").glob("*.png")):
        photo.with_suffix(".txt").write_text("a photo of a person")
        photo.with_suffix(".json").write_text("{}")
    (root / "anna" / "metadata.JSONL").touch()
    (root / "bruno" / "0.txt").write_bytes(b"\xef\xbb\xbf \n")
    assert main(["data", "validate", str(root), "--workers", "0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "photos: 7 can be read, 3 have a caption of their own"
    assert lines[2] == "other files, not read: 2 .json, 1 .jsonl"
    assert validate(root, workers=0).content()["not_read"] == {".json": 2, ".jsonl": 1}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("0.txt", "ä cap".encode()),
        ("0.TXT", "ä cap\r\n".encode()),
        ("0.txt", "ä cap".encode("utf-8-sig")),
        ("0.txt", "ä cap".encode("utf-16")),
        ("0.txt", codecs.BOM_UTF16_BE + "ä cap".encode("utf-16-be")),
        ("0.txt", "ä cap".encode("utf-16-le")),
        ("0.Txt", "ä cap".encode("utf-16-be")),
    ],
)
def test_what_is_listed_as_a_caption_is_read(root: Path, name: str, content: bytes) -> None:
    (root / "anna" / name).write_bytes(content)
    listing = list_identity(root, "anna")
    assert not listing.problems
    assert [path.name for path in listing.photos] == ["0.png", "1.png"]
    assert [caption_of(path) for path in listing.photos] == ["ä cap", None]
    assert validate(root, workers=0).captions == 2


def test_captions_that_cannot_be_read_are_refused(root: Path, tmp_path: Path) -> None:
    photo, (caption, other) = root / "anna" / "0.png", (tmp_path / "0.txt", tmp_path / "passwd")
    other.write_text("secret")
    for target, text in (
        (b"\xe4", "UTF-8"),
        (b"a\0\0\0b", "UTF-8"),
        (b"a" * 70_000, "65536 bytes"),
    ):
        photo.with_suffix(".txt").write_bytes(target)
        with pytest.raises(BadCaption, match=rf"^its caption 0\.txt .*{text}"):
            caption_of(photo)
    photo.with_suffix(".txt").unlink()
    photo.with_suffix(".txt").symlink_to(other)
    with pytest.raises(BadCaption, match="is a link to a file that is no caption"):
        caption_of(photo)
    caption.write_text("of a linked set")
    photo.with_suffix(".txt").unlink()
    photo.with_suffix(".txt").symlink_to(caption)
    assert caption_of(photo) == "of a linked set"
    photo.with_suffix(".TXT").write_text("another")
    [problem] = list_identity(root, "anna").problems
    assert str(problem) == "file anna/0.TXT: is not read: 0.txt is the caption"


def test_names_that_are_not_text_are_reported_on_one_line() -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    text = name_problem(name)
    assert text is not None
    assert "not UTF-8" in text
    assert str(Problem("photo", name, text)).encode("utf-8").startswith(b"photo caf\\udce9.jpg: ")
    assert name_problem("Ünïcode 名.jpg") is None


def test_the_first_of_equal_files_is_the_first_that_can_be_used() -> None:
    digests = np.repeat(np.array([[1], [2], [1], [1], [2]], np.uint8), 32, axis=1)
    usable = np.array([False, True, True, True, True])
    assert first_of_each(digests, usable).tolist() == [0, 1, 2, 2, 1]
    assert first_of_each(digests[:0], usable[:0]).tolist() == []


@pytest.mark.skipif(not REAL.is_dir(), reason="the real material is not here")
def test_real_damaged_files_are_found_and_odd_ones_taken(tmp_path: Path) -> None:
    (tmp_path / "awkward").symlink_to(REAL / "awkward")
    report = validate(tmp_path, workers=0)
    assert {problem.name for problem in report.problems} == {
        "awkward/Pillow-broken.png",
        "awkward/Pillow-broken_data_stream.png",
        "awkward/Pillow-truncated_jpeg.jpg",
    }
