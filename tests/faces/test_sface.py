"""encoder=sface on files in the published format: detection, crops, embedding, errors."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx_files import EYES_NOSE_MOUTH, write_sface, write_yunet

from portraitlab.faces.alignment import ARCFACE, align
from portraitlab.faces.encoder.face_encoder import photo_tensor
from portraitlab.faces.encoder.sface import SFaceEncoder
from portraitlab.faces.finder.encoder import EncoderFinder
from portraitlab.method.objective.identity import IdentityLoss
from portraitlab.types import FaceGeometry
from portraitlab.world.pretrained import load_clip, load_recogniser

ONE_PASS = {"passes": [{"det_size": 320}], "fallback": None}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("zoo")
    return (
        write_yunet(folder / "face_detection_yunet_2023mar.onnx"),
        write_sface(folder / "face_recognition_sface_2021dec.onnx"),
    )


@pytest.fixture(scope="module")
def make(files: tuple[Path, Path]) -> Callable[..., SFaceEncoder]:
    clip = load_clip()

    def build(**settings: object) -> SFaceEncoder:
        usual = {"detector": str(files[0]), "recogniser": str(files[1])}
        return SFaceEncoder(clip, **(usual | settings))  # type: ignore[arg-type]

    return build


def photo(height: int, width: int, *cells: tuple[int, int], scale: int = 1) -> np.ndarray:
    """Black, with a blue square of 8 x 8 pixels times scale at each cell (row, column)."""
    pixels = np.zeros((height, width, 3), np.uint8)
    edge = 8 * scale
    for row, column in cells:
        pixels[row * edge : (row + 1) * edge, column * edge : (column + 1) * edge, 2] = 255
    return pixels


def expected(row: int, column: int, height: int, width: int, scale: int = 1) -> torch.Tensor:
    places = torch.tensor(EYES_NOSE_MOUTH, dtype=torch.float32).view(5, 2)
    cells = places + torch.tensor([column, row])
    # A detector's 0 is the middle of the first pixel.
    return (8 * scale * cells + 0.5) / torch.tensor([width, height])


def test_faces_are_found_where_they_are_in_photos_of_any_shape(make) -> None:
    encoder = make(**ONE_PASS)
    found = encoder.find(photo(240, 320, (5, 7), (20, 30)))
    assert len(found) == 2
    for row, column in ((5, 7), (20, 30)):
        wanted = expected(row, column, 240, 320)
        assert min((points - wanted).abs().max() for points in found.keypoints) < 1e-3
    large = encoder.find(photo(1280, 640, (10, 6), scale=4))
    assert len(large) == 1
    torch.testing.assert_close(
        large.keypoints[0], expected(10, 6, 1280, 640, scale=4), atol=2e-3, rtol=0
    )
    assert len(encoder.find(photo(100, 100))) == 0


def test_yunet_without_a_size_of_its_own_is_the_same(make, tmp_path) -> None:
    dynamic = make(detector=str(write_yunet(tmp_path / "yunet_2026may.onnx", dynamic=True)))
    picture = photo(240, 320, (5, 7), (20, 30))
    one, other = dynamic.find(picture), make().find(picture)
    torch.testing.assert_close(one.keypoints, other.keypoints)


def test_padding_and_the_fallback_are_looks_of_their_own(make, caplog) -> None:
    with caplog.at_level(logging.DEBUG, logger="portraitlab"):
        encoder = make(passes=[{"det_size": 64}], fallback={"det_size": 640})
        assert "at det_size 64, where that finds none at 640" in caplog.text
        assert "face_detection_yunet_2023mar.onnx runs on the CPU, by OpenCV" in caplog.text
        # At 64 a cell of 8 pixels is less than one: only the look at full size sees the face.
        tiny = photo(640, 640, (40, 30))
        torch.testing.assert_close(
            encoder.find(tiny).keypoints[0], expected(40, 30, 640, 640), atol=1e-3, rtol=0
        )
    assert "no face in 640 x 640 pixels: the pass at det_size 640 found 1" in caplog.text
    assert len(make(passes=[{"det_size": 64}], fallback=None).find(tiny)) == 0
    padded = make(passes=[{"det_size": 640, "padding": 0.5}], fallback=None)
    torch.testing.assert_close(
        padded.find(photo(320, 320, (20, 20))).keypoints[0],
        expected(20, 20, 320, 320),
        atol=1e-3,
        rtol=0,
    )


def test_one_face_seen_twice_is_one(make) -> None:
    twice = make(passes=[{"det_size": 320}, {"det_size": 320}], fallback=None)
    assert len(twice.find(photo(320, 320, (20, 20)))) == 1


def test_the_embedding_is_that_of_the_crop_on_arcface_s_template(make, files) -> None:
    import onnxruntime

    encoder = make(**ONE_PASS)
    random = np.random.default_rng(0)
    coarse = random.integers(0, 255, (8, 8, 3), dtype=np.uint8)
    image = photo_tensor(coarse)
    image = torch.nn.functional.interpolate(image, (448, 448), mode="bicubic").clamp(-1, 1)
    # Within the image, because what lies outside is filled otherwise.
    keypoints = 0.5 + 0.4 * (ARCFACE.template - 0.5)[None]
    geometry = FaceGeometry(keypoints, torch.ones(1))
    mask = torch.ones(1, 8, 8, dtype=torch.bool)
    local, embedding = encoder.encode(image, mask, geometry)
    assert local.shape == (1, encoder.local_length, encoder.local_dim)
    assert embedding.shape == (1, encoder.global_dim) == (1, 128)
    assert embedding.norm().item() == pytest.approx(1.0, abs=1e-5)
    # The published net takes raw RGB.
    crop = (align(image, keypoints + 0.5 / 448, 112, ARCFACE) + 1) * 127.5
    session = onnxruntime.InferenceSession(str(files[1]))
    (wanted,) = session.run(None, {"data": crop.numpy()})
    cosine = torch.nn.functional.cosine_similarity(embedding, torch.from_numpy(wanted)).item()
    assert cosine > 0.999


def test_analysed_images_without_a_face_score_zero(make) -> None:
    encoder = make(**ONE_PASS)
    images = torch.stack([photo_tensor(photo(320, 320, *cells))[0] for cells in ([(9, 9)], [])])
    geometry = encoder.analyse(images)
    assert geometry.score[0] > 0.9
    assert geometry.score[1] == 0
    assert geometry.keypoints.isfinite().all()


def test_it_finds_the_faces_of_generated_pictures_for_the_identity_loss(make) -> None:
    recogniser = load_recogniser("recogniser")
    loss = IdentityLoss(recogniser, EncoderFinder(make(**ONE_PASS)))
    pictures = torch.stack([photo_tensor(photo(320, 320, *cells))[0] for cells in ([(9, 9)], [])])
    pictures.requires_grad_(True)
    identity = torch.nn.functional.normalize(torch.ones(2, recogniser.global_dim), dim=-1)
    loss.loss(pictures, identity).backward()
    assert pictures.grad is not None
    assert pictures.grad[0].abs().sum() > 0
    assert pictures.grad[1].abs().sum() == 0


def test_the_identity_loss_fits_no_3d_model_which_it_would_not_read(make) -> None:
    encoder = make(**ONE_PASS)
    pictures = photo_tensor(photo(320, 320, (9, 9)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder, "fit", lambda *_: pytest.fail("a 3DMM was fitted"))
        found = EncoderFinder(encoder)(pictures)
    assert torch.equal(found.keypoints, encoder.analyse(pictures).keypoints)


def test_a_generated_picture_is_looked_at_once(make) -> None:
    encoder = make(passes=[{"det_size": 640}, {"det_size": 64}], fallback={"det_size": 1280})
    looks = []
    detect = encoder._detect
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoder, "_detect", lambda *seen: looks.append(seen[1]) or detect(*seen))
        found = EncoderFinder(encoder)(photo_tensor(photo(320, 320, (9, 9))))
        missed = EncoderFinder(encoder, det_size=64)(photo_tensor(photo(320, 320)))
    assert looks == [320, 64]
    assert found.score[0] > 0.9
    assert missed.score[0] == 0


def test_settings_of_the_detection_are_in_the_fingerprint(make, files, tmp_path) -> None:
    other = write_sface(tmp_path / "other.onnx", seed=1)
    encoders = [
        make(),
        make(passes=[{"det_size": 320}]),
        make(fallback=None),
        make(same_face=0.5),
        make(minimum_score=0.6),
        make(recogniser=str(other)),
    ]
    assert len({encoder.fingerprint for encoder in encoders}) == len(encoders)
    assert make().fingerprint == encoders[0].fingerprint


def test_missing_and_wrong_files_name_the_download(make, files, tmp_path) -> None:
    with pytest.raises(
        ValueError, match=r"encoder\.detector names no file.*yunet_2023mar.*MIT.*hf"
    ):
        make(detector=None)
    with pytest.raises(
        ValueError, match=r"encoder\.recogniser=.*none\.onnx is no file.*Apache-2\.0"
    ):
        make(recogniser=str(tmp_path / "none.onnx"))
    pointer = tmp_path / "pointer.onnx"
    pointer.write_bytes(b"version https://git-lfs.github.com/spec/v1\nsize 1\n")
    with pytest.raises(
        ValueError, match=r"encoder\.recogniser=.* is a Git LFS pointer of 50 bytes"
    ):
        make(recogniser=str(pointer))
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(files[0].read_bytes()[:-50])
    with pytest.raises(ValueError, match=r"encoder\.detector=.*cut\.onnx .* or is damaged"):
        make(detector=str(cut))
    with pytest.raises(ValueError, match=r"encoder\.detector=.*sface.* not the model that belongs"):
        make(detector=str(files[1]))
    with pytest.raises(
        ValueError, match=r"encoder\.recogniser=.*yunet.* not the model that belongs"
    ):
        make(recogniser=str(files[0]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"passes": []}, r"give at least one pass"),
        ({"same_face": 0}, r"same_face=0 cannot find faces"),
        ({"passes": [{"det_size": 300}]}, r"det_size: Input should be a multiple of 32"),
        ({"fallback": {"det_size": 640, "padding": -1}}, r"padding: Input should be greater than"),
        ({"passes": [{"size": 640}]}, r"has \{'size': 640\} \(.*\); a pass is a det_size in"),
        ({"passes": [{"det_size": 640.0}]}, r"det_size: Input should be a valid integer"),
        ({"fallback": {"det_size": "x"}}, r"det_size: Input should be a valid integer"),
        ({"minimum_score": 2}, r"encoder\.minimum_score=2: a number above 0 and below 1"),
    ],
)
def test_senseless_passes_are_refused(make, settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        make(**settings)
