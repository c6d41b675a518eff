"""All faces of a picture of any size are found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from portraitlab.faces.detector.encoder import EncoderFaces
from portraitlab.faces.detector.world import WorldFaces
from portraitlab.world.identity import make_identity
from portraitlab.world.pretrained import load_detector
from portraitlab.world.render import render_scene
from portraitlab.world.settings import make_settings


@pytest.fixture(scope="module")
def scene():
    """Two people side by side."""
    people = []
    for seed, x in ((300_001, 0.27), (300_004, 0.73)):
        settings = make_settings(seed, 3, "half")
        settings = replace(settings, x=x, y=0.3, scale=0.13, yaw=0.0, cover="none", blur=0.0)
        people.append((make_identity(seed), settings))
    return render_scene(people, 128)


@pytest.mark.parametrize("size", [(128, 128), (300, 300), (512, 700)])
def test_the_worlds_detector_finds_both_in_pictures_of_any_size(scene, size) -> None:
    photo = np.asarray(Image.fromarray(scene.image).resize(size[::-1], Image.Resampling.BICUBIC))
    found = WorldFaces(load_detector()).find(photo)
    assert len(found) == 2
    assert found.score[0] >= found.score[1] >= 0.5
    order = found.keypoints[:, :, 0].mean(1).argsort()
    truth = torch.tensor(np.stack([each.face.keypoints for each in scene.people]))
    assert (found.keypoints[order] - truth).abs().max() < 0.04


def test_a_picture_without_a_face_has_none() -> None:
    found = WorldFaces(load_detector()).find(np.full((50, 90, 3), 100, np.uint8))
    assert len(found) == 0
    assert found.keypoints.shape == (0, 5, 2)


def test_an_encoder_finds_by_its_own_search(make_encoder, scene) -> None:
    encoder = make_encoder()
    found = EncoderFaces(encoder).find(scene.image)
    torch.testing.assert_close(found.keypoints, encoder.find(scene.image).keypoints)
