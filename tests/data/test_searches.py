"""Faces are detected twice a photo in a preparation, and nothing is lost by it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from portraitlab.data.features import describe_faces
from portraitlab.data.photo import read_photo
from portraitlab.data.prepare.prepare import PrepareOptions, prepare
from portraitlab.data.prepared import PreparedPhotos
from portraitlab.data.usable import usable_portrait
from portraitlab.faces.alignment import TEMPLATE
from portraitlab.faces.encoder.face_encoder import photo_tensor
from portraitlab.faces.encoder.models import PatchEncoder
from portraitlab.faces.encoder.passes import Passes
from portraitlab.faces.encoder.real import RealFaceEncoder
from portraitlab.faces.matting.none import NoMatting

OPTIONS = PrepareOptions(
    caption="a photo of a person", minimum_side=32, precision="float32", shard=8, batch=3
)


class BrightFace(RealFaceEncoder):
    """An encoder that finds a face in every picture, off centre by an offset from its pixels."""

    def __init__(self, clip: PatchEncoder) -> None:
        once = Passes([{"det_size": 64}], fallback=None, same_face=0.4)
        super().__init__(clip, once, 2, made_of=("bright face",), face3d=None)
        self.looks: list[tuple[int, ...]] = []

    def _detect(self, photo, det_size):
        self.looks.append(photo.shape)
        height, width = photo.shape[:2]
        beside = photo.mean() / 2550
        points = (TEMPLATE.numpy() + beside) * np.array([width, height])
        return np.array([[0, 0, width, height, 0.9]], np.float32), points[None].astype(np.float32)

    def _embed(self, photo, keypoints):
        return keypoints.mean(axis=0)


@pytest.fixture
def encoder(clip) -> BrightFace:
    return BrightFace(clip)


def test_a_face_is_looked_for_in_the_photo_and_in_its_portrait_and_no_third_time(
    encoder, frozen, sound, tmp_path
) -> None:
    ours = replace(frozen, encoder=encoder)
    assert prepare(sound, tmp_path / "out", ours, NoMatting(), OPTIONS, 0)["photos"] == 22
    view = (encoder.image_size, encoder.image_size, 3)
    assert encoder.looks == [(64, 64, 3), view] * 22
    stored = PreparedPhotos(tmp_path / "out")
    views, masks, features = (
        stored.views(range(22)),
        stored.person_masks(range(22)),
        stored.features(),
    )
    faces = describe_faces(encoder, views, torch.as_tensor(masks), encoder.analyse(views))
    assert len(encoder.looks) == 3 * 22
    rows = torch.arange(22)
    assert torch.equal(features.geometry[rows].keypoints, faces["keypoints"])
    assert torch.equal(features.geometry[rows].score, faces["score"])
    torch.testing.assert_close(features.global_[rows], faces["global"])
    torch.testing.assert_close(features.local[rows].half(), faces["local"])


def test_what_is_handed_on_is_what_a_look_at_the_view_says(encoder, make_encoder, sound) -> None:
    photo = read_photo(sound / "person 0" / "1.png")
    for each in (encoder, make_encoder()):
        portrait = usable_portrait(photo, each, NoMatting(), minimum_side=32)
        assert np.array_equal(portrait.view, portrait.resized(each.image_size))
        image = photo_tensor(portrait.view)
        fitted, analysed = each.fit(image, portrait.face), each.analyse(image)
        assert torch.equal(fitted.keypoints, analysed.keypoints)
        assert torch.equal(fitted.score, analysed.score)
        assert (fitted.coefficients is None) == (analysed.coefficients is None)
