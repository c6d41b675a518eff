"""Training data of the regressors, and the figures that they are measured by."""

from pathlib import Path

import pytest
import torch

from portraitlab.pretraining.photos import TrainingPhotos, load_photos
from portraitlab.pretraining.regressor import accuracy, faceless
from portraitlab.world.models.regressor import POSES, FaceRegressor
from portraitlab.world.pretrained import load_face_model

TINY = {
    "embedding_size": 4, "hidden_sizes": [4, 8, 8], "depths": [1, 1, 1], "layer_type": "basic",
    "num_channels": 3,
}  # fmt: skip


@pytest.fixture(scope="module", params=sorted(POSES))
def framed(request, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, TrainingPhotos]:
    cache: Path = tmp_path_factory.mktemp("cache")
    return request.param, load_photos("foundation_check", 12, 4, cache, 1, request.param)


def test_poses_are_of_unit_size_to_the_net(framed) -> None:
    framing, photos = framed
    model = FaceRegressor(load_face_model(), TINY, framing=framing)
    pose = photos.coefficients(torch.arange(len(photos))).pose
    standard = (pose - model.pose_mean) / model.pose_scale
    assert standard.mean(0).abs().max() < 0.6
    assert ((standard.std(0) > 0.4) & (standard.std(0) < 1.6)).all()


@pytest.mark.parametrize("tile", [8, 16])
def test_no_negative_is_the_photo_itself(framed, tile: int) -> None:
    _, photos = framed
    index = torch.arange(len(photos))
    images = photos.pixels(index)
    generator = torch.Generator().manual_seed(0)
    negatives = faceless(images, photos.masks(index), generator, tile)
    assert negatives.shape == images.shape
    assert ((negatives - images).abs().mean((1, 2, 3)) > 0.01).all()


def test_figures_are_of_the_photos_that_are_measured(framed) -> None:
    framing, photos = framed
    torch.manual_seed(0)
    model = FaceRegressor(load_face_model(), TINY, framing=framing).eval()
    found = accuracy(model, photos, tile=8, every=4)
    index = torch.arange(0, len(photos), 4)
    with torch.no_grad():
        estimate, _ = model.estimate(photos.pixels(index))
    truth = photos.coefficients(index)
    error = (estimate.expression - truth.expression).square().mean().sqrt()
    assert found["expression_rmse"] == pytest.approx(float(error), abs=1e-3)
    points = [model.face_model.landmarks(pose) for pose in (estimate, truth)]
    away = (points[0] - points[1]).norm(dim=-1).mean() * 64
    assert found["landmark_error_px"] == pytest.approx(float(away), abs=1e-2)
