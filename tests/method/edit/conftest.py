"""A tiny model with an identity and a control image, and pictures of faces to restore."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tiny import make_batch

from portraitlab.data.face_masks import draw_face_masks
from portraitlab.diffusion.backbone import Backbone
from portraitlab.faces.alignment import TEMPLATE
from portraitlab.faces.detector.encoder import EncoderFaces
from portraitlab.faces.encoder.world import WorldEncoder
from portraitlab.method.cond.keypoints import KeypointCond
from portraitlab.method.edit.base import KnownFaces
from portraitlab.method.fusion.global_ import GlobalFusion
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.hifi_net import HiFiNet


@pytest.fixture
def model(tiny_backbone: Callable[..., Backbone]) -> PortraitModel:
    torch.manual_seed(0)
    backbone = tiny_backbone()
    fusion = GlobalFusion(10, 12, backbone.text_dim)
    model = PortraitModel(backbone, fusion, KeypointCond(), HiFiNet(backbone, True, True))
    for parameter in model.net.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


@pytest.fixture
def encoder(make_encoder: Callable[..., WorldEncoder]) -> WorldEncoder:
    return make_encoder()


@pytest.fixture
def of_faces(encoder: WorldEncoder) -> dict[str, object]:
    """Settings of a restoration of faces of any size."""
    return {"detector": EncoderFaces(encoder), "masks": draw_face_masks, "below": None}


@pytest.fixture
def pictures() -> list[torch.Tensor]:
    """Two pictures of different sizes."""
    draw = torch.Generator().manual_seed(1)
    sizes = ((72, 96), (60, 48))
    noise = [torch.rand(1, 3, 6, 8, generator=draw) * 2 - 1 for _ in sizes]
    smooth = [
        torch.nn.functional.interpolate(each, size, mode="bilinear")[0]
        for each, size in zip(noise, sizes, strict=True)
    ]
    return [((each * 127.5 + 127.5).round() - 127.5) / 127.5 for each in smooth]


@pytest.fixture
def faces() -> KnownFaces:
    """Two faces side by side in the first picture, one in the second, each of another person."""
    batch = make_batch()
    places = torch.tensor([[0.25, 0.5], [0.75, 0.5], [0.5, 0.5]])
    edges = torch.tensor([[28 / 96, 28 / 72], [28 / 96, 28 / 72], [28 / 48, 28 / 60]])
    keypoints = places[:, None] + (TEMPLATE - 0.5) * edges[:, None]
    picture = torch.tensor([0, 0, 1])
    return KnownFaces(picture, keypoints, batch.text, batch.references, batch.shape_geometry)
