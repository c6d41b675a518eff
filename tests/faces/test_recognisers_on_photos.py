"""Recognisers and alignment in torch against onnxruntime and insightface, on real photos."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from placed import REAL
from torch import Tensor
from torch.nn import functional

from portraitlab.data.photo import read_photo
from portraitlab.faces.alignment import ARCFACE, WIDE, Frame, align, face_crops
from portraitlab.faces.encoder.face_encoder import photo_tensor
from portraitlab.faces.encoder.insightface import InsightFaceEncoder
from portraitlab.faces.encoder.packs import load_pack
from portraitlab.faces.recogniser.arcface import ArcFace
from portraitlab.world.pretrained import load_clip


@functools.cache
def real_faces() -> list[tuple[np.ndarray, np.ndarray]]:
    """Photos (border added, RGB) and their face's keypoints, two of every third identity."""
    pack = REAL / "weights" / "insightface" / "models" / "lab_mbf"
    detector = load_pack(pack, ("detection",), ["CPUExecutionProvider"])["detection"]
    detector.prepare(0, input_size=(320, 320), det_thresh=0.5)
    found = []
    for folder in sorted((REAL / "photos").iterdir())[::3]:
        for path in sorted(folder.iterdir())[:2]:
            photo = read_photo(path).image
            border = max(photo.shape[:2]) // 2
            photo = np.pad(photo, ((border, border), (border, border), (0, 0)))
            bgr = np.ascontiguousarray(photo[..., ::-1])
            _, keypoints = detector.detect(bgr, input_size=(320, 320))
            found.append((photo, keypoints[0]))
    return found


def norm_crop(photo: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
    from insightface.utils import face_align

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return face_align.norm_crop(photo, keypoints, image_size=112)


real = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real photos and weights at {REAL}")


@pytest.fixture(scope="module")
def twins() -> tuple[ArcFace, Callable[[np.ndarray], Tensor]]:
    weights = REAL / "weights"
    pack = load_pack(
        weights / "insightface" / "models" / "lab_mbf", ("recognition",), ["CPUExecutionProvider"]
    )

    def embed(crop: np.ndarray) -> Tensor:
        return torch.from_numpy(pack["recognition"].get_feat(crop[..., ::-1]))

    return ArcFace(str(weights / "mobilefacenet" / "mobilefacenet.pt")), embed


@real
def test_mobilefacenet_agrees_with_its_onnx_twin_on_real_photos(twins) -> None:
    arcface, embed = twins
    assert arcface.global_dim == 128
    for photo, keypoints in real_faces():
        crop = norm_crop(photo, keypoints)
        cosine = functional.cosine_similarity(arcface(photo_tensor(crop)), embed(crop))
        assert 1 - cosine.item() < 1e-5  # required: 1e-3


def cosines_of(
    arcface: ArcFace, embed: Callable[[np.ndarray], Tensor], frame: Frame
) -> list[float]:
    """Compute the cosine of embeddings on crops by torch to those on crops by norm_crop."""
    cosines = []
    for photo, keypoints in real_faces():
        # norm_crop counts from the middle of the first pixel.
        places = (keypoints + 0.5) / [photo.shape[1], photo.shape[0]]
        places = torch.tensor(places, dtype=torch.float32)[None]
        crop = align(photo_tensor(photo), places, arcface.crop_size, frame)
        wanted = embed(norm_crop(photo, keypoints))
        cosines.append(functional.cosine_similarity(arcface(crop), wanted).item())
    return cosines


@real
def test_aligned_in_torch_the_embedding_is_that_of_norm_crop(twins) -> None:
    assert len(real_faces()) == 18
    assert min(cosines_of(*twins, ARCFACE)) > 1 - 1e-4  # required: 1e-3


@real
def test_a_face_that_is_found_is_cut_and_embedded_as_norm_crop_cuts_it(twins) -> None:
    arcface, embed = twins
    encoder = InsightFaceEncoder(
        *(str(REAL / "weights" / "insightface"), load_clip(), "lab_mbf"),
        passes=[{"det_size": 320}],
        fallback=None,
    )
    for photo, keypoints in real_faces():
        found = encoder.find(photo)[:1]
        wanted = embed(norm_crop(photo, keypoints))
        seen = photo_tensor(photo)
        _, own = encoder.encode(seen, torch.ones(1, *seen.shape[2:]), found)
        crop = align(seen, found.keypoints, arcface.crop_size, ARCFACE)
        for embedding in (own, arcface(crop)):
            assert 1 - functional.cosine_similarity(embedding, wanted).item() < 1e-4


@real
def test_on_crops_that_it_was_not_trained_on_it_is_another(twins) -> None:
    assert 0.7 < np.median(cosines_of(*twins, WIDE)) < 0.9


@real
def test_through_portraits_and_reduction_the_embedding_stays_near(twins) -> None:
    arcface, embed = twins
    cosines = []
    for photo, keypoints in real_faces():
        centre, side = keypoints.mean(axis=0), int(5 * keypoints.std())
        left, top = (centre - side / 2).astype(int).clip(min=0)
        piece = photo[top : top + side, left : left + side]
        places = torch.tensor((keypoints - [left, top] + 0.5) / piece.shape[1::-1])[None].float()
        portrait = functional.interpolate(photo_tensor(piece), (512, 512), mode="bilinear")
        crop = face_crops(portrait, places, arcface)
        wanted = embed(norm_crop(photo, keypoints))
        cosines.append(functional.cosine_similarity(arcface(crop), wanted).item())
    assert np.median(cosines) > 0.9
