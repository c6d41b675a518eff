"""Matting: a null that keeps all, a net by the user's file, and a folder of photos through it."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from onnx_files import write_matting, write_sface, write_yunet
from PIL import Image

from portraitlab.data.features import Frozen
from portraitlab.data.folder import FolderData
from portraitlab.faces.encoder.sface import SFaceEncoder
from portraitlab.faces.matting.none import NoMatting
from portraitlab.faces.matting.onnx import OnnxMatting
from portraitlab.world.pretrained import load_backbone, load_clip, load_recogniser


def half_green(height: int = 90, width: int = 60) -> np.ndarray:
    """Green above, red below."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, :, 1] = 255
    pixels[height // 2 :, :, 0] = 255
    return pixels


def test_without_matting_all_is_the_person() -> None:
    assert NoMatting().person(half_green()).all()
    assert NoMatting.fingerprint == ""


@pytest.mark.parametrize(("size", "channels"), [(512, 1), ("edge", 1), (192, 2)])
def test_the_net_s_matte_is_the_person(tmp_path, caplog, size, channels) -> None:
    path = write_matting(tmp_path / "net.onnx", size=size, channels=channels)
    with caplog.at_level(logging.INFO):
        matting = OnnxMatting(str(path), size=256 if size == "edge" else size, channel=channels - 1)
    assert "matting: net.onnx runs on CPUExecutionProvider" in caplog.text
    person = matting.person(half_green())
    assert person.shape == (90, 60)
    assert person[:43].all()
    assert not person[47:].any()
    assert (
        not OnnxMatting(str(path), size=matting.size, channel=channels - 1, threshold=1.1)
        .person(half_green())
        .any()
    )


def test_settings_are_in_the_fingerprint(tmp_path) -> None:
    path = str(write_matting(tmp_path / "net.onnx", size="edge"))
    other = str(write_matting(tmp_path / "other.onnx", size="edge", gain=0.5))
    made = [
        OnnxMatting(path), OnnxMatting(path, size=256), OnnxMatting(path, mean=(0, 0, 0)),
        OnnxMatting(path, threshold=0.4), OnnxMatting(path, output="other"), OnnxMatting(other),
    ]  # fmt: skip
    assert len({each.fingerprint for each in made}) == len(made)


def test_wrong_files_and_settings_are_refused(tmp_path) -> None:
    path = write_matting(tmp_path / "net.onnx")
    with pytest.raises(ValueError, match=r"matting\.weights names no file.*MODNet.*Apache-2\.0"):
        OnnxMatting()
    with pytest.raises(ValueError, match=r"give matting\.size=512 instead of 256"):
        OnnxMatting(str(path), size=256)
    with pytest.raises(
        ValueError, match=r"matting\.output=alpha is not an output .*has output, other"
    ):
        OnnxMatting(str(path), output="alpha")
    with pytest.raises(ValueError, match=r"matting\.providers has NoProvider"):
        OnnxMatting(str(path), providers=["NoProvider"])
    with pytest.raises(
        ValueError, match=r"matting\.channel=1 is not a channel of .*\[1, 1, 512, 512\]"
    ):
        OnnxMatting(str(path), channel=1).person(half_green())
    with pytest.raises(
        ValueError, match=r"other has values from -1 to -?0, and a matte has values"
    ):
        OnnxMatting(str(path), output="other").person(half_green())
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"net\.onnx \(\d+ bytes\) is not a complete onnx model"):
        OnnxMatting(str(path))


def write_photo(path: Path, seed: int, *, person: bool = True) -> None:
    """A face for `write_yunet`, and behind it, in the middle, green, which is the person."""
    pixels = np.zeros((128, 128, 3), np.uint8)
    pixels[..., 0] = np.random.default_rng(seed).integers(0, 255, (128, 128))
    if person:
        pixels[:, 48:80] = (0, 255, 0)
    pixels[64:72, 64:72] = (0, 0, 255)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two identities, each with two photos."""
    for seed in range(4):
        folder = tmp_path / "photos" / f"person {seed // 2}"
        folder.mkdir(parents=True, exist_ok=True)
        write_photo(folder / f"{seed}.png", seed)
    return tmp_path / "photos"


def test_a_folder_s_photos_lose_what_is_not_the_person(photos, tmp_path, caplog) -> None:
    zoo = (write_yunet(tmp_path / "yunet.onnx"), write_sface(tmp_path / "sface.onnx"))
    encoder = SFaceEncoder(load_clip(), *map(str, zoo), passes=[{"det_size": 128}], fallback=None)
    frozen = Frozen(encoder, load_backbone(), load_recogniser("recogniser"))
    weights = str(write_matting(tmp_path / "net.onnx"))

    def stored(**settings: object):
        data = FolderData(cache=str(tmp_path / "cache"), root=str(photos), **settings)
        return data.train_photos(frozen).store

    whole, matted = stored(), stored(matting=OnnxMatting(weights))
    assert whole.key != matted.key
    assert stored(matting=NoMatting()).key == whole.key
    everything, person = (store.person_masks([0])[0] for store in (whole, matted))
    assert everything.all()
    beside_the_face = everything.shape[1] // 2 - 10
    assert person[:, beside_the_face].all()
    assert not person[:, [0, -1]].any()
    # A matte that leaves the face out leaves the photo out.
    write_photo(photos / "person 0" / "other.png", 9, person=False)
    stored(matting=OnnxMatting(weights))
    assert "photo person 0/other.png: its person mask excludes the face" in caplog.text
