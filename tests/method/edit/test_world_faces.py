"""A small face of the world, broken by the autoencoder, is restored by the shipped models."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from portraitlab.data.face_masks import draw_face_masks
from portraitlab.faces.detector.world import WorldFaces
from portraitlab.faces.encoder.face_encoder import photo_tensor
from portraitlab.faces.encoder.world import WorldEncoder
from portraitlab.method.cond.landmarks import LandmarkCond
from portraitlab.method.edit.base import KnownFaces
from portraitlab.method.edit.diir import DIIR
from portraitlab.method.edit.squares import square_around
from portraitlab.method.fusion.none import NoFusion
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.hifi_net import HiFiNet
from portraitlab.types import FaceFeatures
from portraitlab.world.identity import make_identity
from portraitlab.world.pretrained import (
    load_backbone,
    load_clip,
    load_controlnet,
    load_detector,
    load_face_model,
    load_recogniser,
    load_regressor,
)
from portraitlab.world.render import render_scene
from portraitlab.world.settings import make_settings

pytestmark = pytest.mark.slow

PEOPLE = [(300_001, 3), (300_004, 5)]


@pytest.fixture(scope="module")
def encoder() -> WorldEncoder:
    return WorldEncoder(load_clip(), load_recogniser("recogniser"), load_regressor())


@pytest.fixture(scope="module")
def model() -> PortraitModel:
    """HiFi-Net as shipped, before a training, which draws the prompt along the landmarks."""
    backbone = load_backbone()
    net = HiFiNet(backbone, True, False, False, 1.0, load_controlnet())
    cond = LandmarkCond(load_face_model())
    return PortraitModel(backbone, NoFusion(0, 0, backbone.text_dim), cond, net).eval()


@pytest.fixture(scope="module")
def broken(model: PortraitModel) -> Tensor:
    """Two people in a picture of 128 px, whose faces are about 20 px wide."""
    settings = [make_settings(*seeds, "full") for seeds in PEOPLE]
    placed = [
        replace(each, x=x, y=0.3, scale=0.115, yaw=0.1, cover="none", glasses="none", blur=0.0)
        for each, x in zip(settings, (0.27, 0.73), strict=True)
    ]
    people = [(make_identity(seed), each) for (seed, _), each in zip(PEOPLE, placed, strict=True)]
    picture = photo_tensor(render_scene(people, 128).image)
    with torch.no_grad():
        return model.backbone.decode(model.backbone.encode(picture))[0].clamp(-1, 1)


@pytest.fixture(scope="module")
def edit() -> DIIR:
    settings = {"steps": 6, "guidance": 2.0, "shape": "broken", "below": 24}
    return DIIR(detector=WorldFaces(load_detector()), masks=draw_face_masks, **settings)


@pytest.fixture(scope="module")
def faces(edit: DIIR, model: PortraitModel, encoder: WorldEncoder, broken: Tensor) -> KnownFaces:
    found = edit.find(broken)
    assert len(found) == 2
    references = FaceFeatures(
        torch.zeros(2, 1, 65, encoder.local_dim),
        torch.zeros(2, 1, encoder.global_dim),
        torch.ones(2, 1, dtype=torch.bool),
    )
    text = model.backbone.encode_text(["a photo of a person"]).expand(2)
    return KnownFaces(torch.zeros(2).long(), found.keypoints, text, references, found)


@pytest.fixture(scope="module")
def edited(edit, model, encoder, broken, faces):
    return edit(model, encoder, [broken], faces)


def landmarks(encoder: WorldEncoder, picture: Tensor, faces: KnownFaces) -> Tensor:
    """Landmarks [2, 68, 2] in pixels of 64 px portraits of the faces."""
    crops = [square_around(points, 128, 128).cut(picture, 64) for points in faces.keypoints]
    coefficients = encoder.analyse(torch.stack(crops)).coefficients
    return 64 * load_face_model().landmarks(coefficients)


def test_both_faces_are_restored(edited, broken) -> None:
    assert edited.left == ["", ""]
    (restored,), (mask,) = edited.pictures, edited.masks
    changed = (restored - broken).abs().mean(0) > 0.02
    assert changed.sum() > 100
    assert not changed[mask[0] == 0].any()


def test_pose_and_expression_stay(edited, encoder, broken, faces) -> None:
    """Complaint: the expression is lost. A portrait's pixel is a third of one here."""
    before = landmarks(encoder, broken, faces)
    after = landmarks(encoder, edited.pictures[0], faces)
    assert (after - before).norm(dim=-1).mean(1).max() < 2.5
    strangers = (before - before.flip(0)).norm(dim=-1).mean()
    assert (after - before).norm(dim=-1).mean() < strangers


def test_the_edge_of_the_mask_is_no_steeper_than_elsewhere(
    edited, edit, model, encoder, broken, faces
) -> None:
    """Complaint: a visible box. The new pixels begin no more steeply than they vary inside."""
    (restored,), (mask,) = edited.pictures, edited.masks
    settings = {"steps": 6, "guidance": 2.0, "shape": "broken", "soften": 0.0}
    plain = DIIR(detector=edit.detector, masks=edit.masks, features=None, latents=False, **settings)
    hard = plain(model, encoder, [broken], faces).pictures[0]

    def steep(picture: Tensor) -> Tensor:
        across = functional.pad(picture.diff(dim=2).abs().mean(0), (0, 1))
        down = functional.pad(picture.diff(dim=1).abs().mean(0), (0, 0, 0, 1))
        return across + down

    edge, inside = (mask[0] > 0) & (mask[0] < 0.6), mask[0] > 0.9
    change, with_a_box = steep(restored - broken), steep(hard - broken)
    assert edge.sum() > 40
    assert change[edge].mean() < 0.7 * change[inside].mean()
    assert steep(restored)[edge].mean() < 1.05 * steep(broken)[edge].mean()
    assert with_a_box[edge].mean() > 2 * change[edge].mean()


def test_without_fusion_the_inverted_face_returns(edit, model, encoder, broken, faces) -> None:
    crops = torch.stack(
        [square_around(points, 128, 128).cut(broken, 64) for points in faces.keypoints]
    )
    plain = DIIR(
        detector=edit.detector, masks=edit.masks, shape="broken", steps=20, guidance=1.0,
        features=None, latents=False, repeats=3,
    )  # fmt: skip
    with torch.no_grad():
        geometry = encoder.analyse(crops)
        condition = model.condition(plain._batch(model, faces, geometry, crops))
        back = plain.restore(model, crops, condition, torch.zeros(2, 1, 64, 64))
        round_trip = model.backbone.decode(model.backbone.encode(crops))
    assert (back - round_trip).square().mean().sqrt() < 0.05
