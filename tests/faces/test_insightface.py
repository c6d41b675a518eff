"""Real faces: packs, detection and embedding on real photos, if these are present."""

from __future__ import annotations

import csv
import functools
import logging
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from placed import REAL

from portraitlab.data.batches import TrainingBatches
from portraitlab.data.features import Frozen
from portraitlab.data.folder import FolderData
from portraitlab.data.photo import read_photo
from portraitlab.faces.encoder.face_encoder import photo_tensor
from portraitlab.faces.encoder.insightface import InsightFaceEncoder
from portraitlab.faces.encoder.packs import find_pack, load_pack
from portraitlab.faces.sessions import session_providers
from portraitlab.method.select.random import RandomReference

PACKS = REAL / "weights" / "insightface"
TASKS = ("detection", "recognition")
CPU = ["CPUExecutionProvider"]

real = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real photos and packs at {REAL}")


def make_pack(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\nsize 16923827\n")
    return folder


def test_a_pack_is_found_in_every_layout(tmp_path, caplog) -> None:
    one = make_pack(tmp_path / "models" / "one", "a.onnx")
    nested = make_pack(tmp_path / "models" / "two" / "two", "a.onnx")
    make_pack(tmp_path / "models" / "three", "readme.md")
    assert find_pack(tmp_path, "one") == find_pack(tmp_path / "models", "one") == one
    assert find_pack(one, None) == one
    assert find_pack(tmp_path, "two") == nested
    assert find_pack(tmp_path / "models" / "two", None) == nested
    assert not caplog.messages
    assert find_pack(tmp_path, None) == one
    assert "has the packs one, two: one is used; encoder.name chooses" in caplog.text
    with pytest.raises(ValueError, match=r"encoder\.name=six is not in .*packs one, two; choose"):
        find_pack(tmp_path, "six")


def zipped(path: Path, *members: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for member in members:
            archive.writestr(member, f"model {member}")
    return path


@pytest.mark.parametrize("folders", ["", "antelopev2/", "antelopev2/antelopev2/"])
def test_a_zip_that_nobody_unpacked_is_unpacked_flat(tmp_path, caplog, folders) -> None:
    archive = zipped(
        tmp_path / "models" / "antelopev2.zip",
        *(f"{folders}{name}" for name in ("glintr100.onnx", "scrfd_10g_bnkps.onnx", "README")),
        "__MACOSX/._glintr100.onnx",
    )
    with caplog.at_level(logging.INFO):
        pack = find_pack(tmp_path, "antelopev2")
    assert pack == tmp_path / "models" / "antelopev2"
    assert {path.name for path in pack.iterdir()} == {"glintr100.onnx", "scrfd_10g_bnkps.onnx"}
    assert "antelopev2.zip was unpacked: 2 models are in " in caplog.text
    caplog.clear()
    for again in (find_pack(tmp_path, None), find_pack(archive, None), find_pack(pack, None)):
        assert again == pack
    assert not caplog.messages
    assert sorted(path.name for path in pack.parent.iterdir()) == ["antelopev2", "antelopev2.zip"]


def test_processes_that_unpack_at_once_all_find_the_pack(tmp_path) -> None:
    archive = zipped(tmp_path / "pack.zip", *(f"pack/{number}.onnx" for number in range(200)))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(find_pack, [archive] * 8, [None] * 8))
    assert set(found) == {tmp_path / "pack"}
    assert len(list(found[0].iterdir())) == 200
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pack", "pack.zip"]


def test_a_zip_never_writes_outside_its_folder(tmp_path) -> None:
    archive = zipped(tmp_path / "packs" / "bad.zip", "../../escaped.onnx", "/absolute.onnx")
    assert {path.name for path in find_pack(archive, None).iterdir()} == {
        "escaped.onnx", "absolute.onnx",
    }  # fmt: skip
    assert not (tmp_path / "escaped.onnx").exists()


def test_a_zip_of_more_than_models_take_is_refused_before_it_is_unpacked(tmp_path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w") as archive:
        archive.writestr("a.onnx", b"zeros")
        archive.infolist()[0].file_size = 2**30 + 2**20
    with pytest.raises(ValueError, match=r"bomb\.zip takes 1,075 MB, and 1,074 MB is the limit"):
        find_pack(tmp_path / "bomb.zip", None)
    assert [path.name for path in tmp_path.iterdir()] == ["bomb.zip"]


def test_a_zip_that_is_no_pack_is_refused(tmp_path) -> None:
    archive = zipped(tmp_path / "one.zip", "a.onnx", "b.onnx")
    whole = archive.read_bytes()
    for content in (whole[:-30], whole.replace(b"model a", b"model x"), b""):
        archive.write_bytes(content)
        with pytest.raises(ValueError, match=r"one\.zip \(\d+ bytes\) is not a complete zip"):
            find_pack(tmp_path, "one")
    archive.write_bytes(b"version https://git-lfs.github.com/spec/v1\nsize 360662982\n")
    with pytest.raises(ValueError, match=r"one\.zip \(58 bytes\) is not a .*LFS pointer.*git lfs"):
        find_pack(archive, None)
    with pytest.raises(ValueError, match=r"has no \*\.onnx, only readme\.md"):
        find_pack(zipped(archive, "readme.md"), None)
    (tmp_path / "one").write_text("a file where the folder should be")
    with pytest.raises(ValueError, match=r"cannot be unpacked into .*one: .*Unpack it yourself"):
        find_pack(zipped(archive, "a.onnx"), None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "one.zip"]


def test_a_pack_is_found_by_its_name_where_insightface_puts_it(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ValueError, match=rf"encoder\.root={tmp_path}/\.insightface is no folder"):
        find_pack(None, "two")
    one, two = (
        make_pack(tmp_path / ".insightface" / "models" / name, "a.onnx") for name in ("one", "two")
    )
    assert (find_pack(None, "two"), find_pack(None, None)) == (two, one)
    assert find_pack(Path("~/.insightface/models/two"), None) == two


def test_a_missing_pack_s_error_names_source_and_licence(tmp_path) -> None:
    help_ = (
        r".*Download a pack of insightface, such as antelopev2\.zip or buffalo_l\.zip \(.*, "
        r"non-commercial research only\): https://github\.com/deepinsight/insightface/releases/tag/"
        r"v0\.7\. Then give encoder\.root=FOLDER"
    )
    with pytest.raises(ValueError, match=rf"encoder\.root=.*nowhere is no folder{help_}"):
        find_pack(tmp_path / "nowhere", None)
    with pytest.raises(ValueError, match=rf"has no pack: there is no \*\.onnx{help_}"):
        find_pack(tmp_path, None)
    make_pack(tmp_path / "one", "a.onnx")
    with pytest.raises(ValueError, match=rf"encoder\.name=six is not in .*; choose one{help_}"):
        find_pack(tmp_path, "six")
    again = (
        r"git lfs pull fetches it\)\. Download the pack again: .*research only\): https://github"
    )
    with pytest.raises(ValueError, match=again):
        load_pack(tmp_path / "one", TASKS, CPU)


def test_pointers_and_broken_files_are_distinguished_from_weights(tmp_path) -> None:
    pack = make_pack(tmp_path / "pack", "det.onnx", "rec.onnx")
    with pytest.raises(ValueError, match=r"det\.onnx .* is a Git LFS pointer.*git lfs pull.*again"):
        load_pack(pack, TASKS, CPU)
    for content in (b"", b"\x08\x07garbage"):
        (pack / "det.onnx").write_bytes(content)
        (pack / "rec.onnx").unlink(missing_ok=True)
        size = len(content)
        with pytest.raises(ValueError, match=rf"det\.onnx \({size} bytes\) is not a complete onnx"):
            load_pack(pack, TASKS, CPU)
    with pytest.raises(ValueError, match=r"providers has NoExecutionProvider.*only offers .*CPU"):
        load_pack(pack, TASKS, ["NoExecutionProvider"])
    for none in ([], "CPUExecutionProvider"):
        with pytest.raises(ValueError, match=r"is not a list of execution providers; give one"):
            load_pack(pack, TASKS, none)


def test_each_process_of_a_training_runs_its_models_on_its_own_gpu(monkeypatch) -> None:
    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: both)
    cuda = ("CUDAExecutionProvider", {"device_id": "3"})
    assert session_providers(both, "encoder.providers", 3) == [cuda, "CPUExecutionProvider"]


@real
def test_pointers_cut_files_and_missing_models_of_real_packs(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"\.onnx .* is a Git LFS pointer"):
        load_pack(find_pack(REAL / "weights" / "lfs_pointers", None), TASKS, CPU)
    source = PACKS / "models" / "lab_mbf"
    pack = tmp_path / "pack"
    pack.mkdir()
    shutil.copyfile(source / "det_500m.onnx", pack / "det_500m.onnx")
    with pytest.raises(ValueError, match=r"has no model for recognition, only det_500m\.onnx"):
        load_pack(pack, TASKS, CPU)
    data = (source / "mobilefacenet.onnx").read_bytes()
    (pack / "mobilefacenet.onnx").write_bytes(data[:-10])
    with pytest.raises(ValueError, match=r"mobilefacenet\.onnx .* is not a complete onnx model"):
        load_pack(pack, TASKS, CPU)


@pytest.fixture
def encoder(clip) -> InsightFaceEncoder:
    return InsightFaceEncoder(str(PACKS), clip, name="lab_mbf")


@functools.cache
def noted(note: str) -> Path:
    """Find the first real photo whose note begins with a text."""
    with (REAL / "photos.csv").open(newline="", encoding="utf-8") as file:
        return next(
            REAL / row["path"] for row in csv.DictReader(file) if row["note"].startswith(note)
        )


@real
@pytest.mark.parametrize(
    ("note", "faces"),
    [
        ("159x174 face-fills-frame crop", 1),
        ("small face in a full-body photo", 1),
        ("EXIF orientation 6", 0),
        ("EXIF orientation 8", 1),
        ("16-bit PGM", 1),
        ("greyscale mode L", 1),
        ("two faces", 2),
        ("3 faces", 3),
        ("17 tiny faces", 17),
        ("no face (dog)", 0),
        ("no face, palette mode P", 0),
        ("no face, blank white", 0),
        ("CMYK JPEG, no face", 0),
    ],
)
def test_tight_small_and_several_faces_are_found(encoder, note, faces) -> None:
    found = encoder.find(read_photo(noted(note)).image)
    assert len(found) == faces
    assert found.keypoints.shape == (faces, 5, 2)
    assert (found.score >= 0.5).all()
    assert (found.score[:-1] >= found.score[1:]).all()
    assert found.coefficients is None


@real
def test_the_sizes_at_which_faces_are_looked_for_are_settings(clip, caplog) -> None:
    with caplog.at_level(logging.DEBUG, logger="portraitlab"):
        encoder = InsightFaceEncoder(
            str(PACKS), clip, "lab_mbf", passes=[{"det_size": 96}], fallback={"det_size": 640}
        )
        assert "detection passes: at det_size 96, where that finds none at 640" in caplog.text
        assert "det_500m.onnx of the pack lab_mbf runs on CPUExecutionProvider" in caplog.text
        small = read_photo(noted("small face in a full-body photo")).image
        assert len(encoder.find(small)) == 1
    assert "the pass at det_size 640 found 1" in caplog.text
    alone = InsightFaceEncoder(
        str(PACKS), clip, "lab_mbf", passes=[{"det_size": 96}], fallback=None
    )
    assert len(alone.find(small)) == 0
    assert alone.fingerprint != encoder.fingerprint


@real
def test_keypoints_stand_in_the_templates_order_whatever_the_rotation(encoder) -> None:
    upright = encoder.find(read_photo(noted("128 px original of the EXIF set")).image).keypoints[0]
    left, right, nose, mouth_left, mouth_right = upright.tolist()
    assert left[0] < nose[0] < right[0]
    assert mouth_left[0] < mouth_right[0]
    assert max(left[1], right[1]) < nose[1] < min(mouth_left[1], mouth_right[1])
    for orientation in (2, 3, 8):
        photo = read_photo(noted(f"EXIF orientation {orientation}")).image
        turned = encoder.find(photo).keypoints[0]
        torch.testing.assert_close(turned, upright, atol=0.02, rtol=0)


@real
def test_an_image_without_a_face_scores_zero(encoder) -> None:
    blank = photo_tensor(read_photo(noted("no face, blank white")).image)
    geometry = encoder.analyse(blank)
    assert geometry.score.tolist() == [0.0]
    assert geometry.keypoints.isfinite().all()
    local, global_ = encoder.encode(blank, torch.ones(1, 150, 150, dtype=torch.bool), geometry)
    assert local.isfinite().all()
    assert global_.norm(dim=-1).item() == pytest.approx(1.0, abs=1e-4)


@real
def test_real_identities_are_taken_embedded_and_batched(
    encoder, tiny_backbone, frozen, tmp_path, caplog
) -> None:
    root = tmp_path / "photos"
    (root / "awkward").mkdir(parents=True)
    folders = sorted((REAL / "photos").iterdir())
    sizes = {folder.name: len(list(folder.iterdir())) for folder in folders}
    six = next(name for name, size in sizes.items() if size == 6)
    four = [name for name, size in sizes.items() if size == 4][:3]
    for name in (six, *four):
        (root / name).symlink_to(REAL / "photos" / name)
    awkward = {
        "two faces": "shows 2 faces, not one",
        "no face (dog)": "shows no face",
        "truncated": "cannot be read",
        "broken header": "is not a picture",
    }
    for number, note in enumerate(awkward):
        (root / "awkward" / f"{number}.jpg").symlink_to(noted(note))
    real_frozen = Frozen(encoder, tiny_backbone(), frozen.recogniser)
    data = FolderData(cache=str(tmp_path / "cache"), root=str(root))
    with caplog.at_level(logging.INFO):
        train, score = data.train_photos(real_frozen), data.score_photos(real_frozen)
    for number, reason in enumerate(awkward.values()):
        assert f"left out: photo awkward/{number}.jpg: {reason}" in caplog.text
    assert "left out: identity awkward: usable photos 0, needed 2" in caplog.text
    assert "18 photos of 4 identities taken; left out: 4 photos, 1 identities" in caplog.text
    assert score.identities == (six,)
    assert train.features.geometry.coefficients is None

    embeddings = train.features.global_
    similarity = embeddings @ embeddings.T
    identity = np.array(train.store.identity)
    same = torch.from_numpy(identity[:, None] == identity) & ~torch.eye(18, dtype=torch.bool)
    assert similarity[same].median() > 0.45
    assert similarity[torch.from_numpy(identity[:, None] != identity)].max() < 0.4
    # The portraits are framed alike, so the middle of every face is at about the same place.
    centres = train.features.geometry.keypoints.mean(dim=1)
    assert centres.std(dim=0).max() < 0.02

    batch = TrainingBatches(train, refs=3, batch_size=4, steps=1, seed=0)[0]
    assert batch.references.local_.shape == (4, 3, encoder.local_length, encoder.local_dim)
    scoring = data.scoring_set(score, refs=4, select=RandomReference())
    assert {sample.identity for sample in scoring.samples} == {six}
    with pytest.raises(ValueError, match="refs=6 is too many: scoring needs"):
        data.scoring_set(score, refs=6, select=RandomReference())
