"""The Basel Face Model against 3DDFA's published projection, and the way a fitter looks twice."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from published import write_tddfa
from torch.nn import functional

from portraitlab.faces.alignment import TEMPLATE
from portraitlab.faces.face3d.bfm import load_bfm
from portraitlab.faces.face3d.fitter import around, crop
from portraitlab.faces.face3d.linear import rotation_matrices
from portraitlab.faces.face3d.tddfa import TddfaFitter, load_tddfa, weak_perspective


@pytest.fixture
def fitter(tddfa_files: Path) -> TddfaFitter:
    return load_tddfa(str(tddfa_files))


def published_landmarks(arrays, numbers: np.ndarray, camera: np.ndarray) -> np.ndarray:
    """68 landmarks of 50 coefficients as 3DDFA places them, as fractions of a crop of 120 px.

    Its pixels are counted from 1 at the left, from 0 at the top after the rows were turned.
    """
    rows = arrays["keypoints"]
    face = arrays["u"][rows, 0] + arrays["w_shp"][rows] @ numbers[:40]
    face = (face + arrays["w_exp"][rows] @ numbers[40:]).reshape(68, 3)
    seen = face @ camera[:, :3].T + camera[:, 3]
    column, row = seen[:, 0] - 1, 120 - seen[:, 1]
    return np.stack([column + 0.5, row + 0.5], axis=1) / 120  # fractions of pixels' middles


def test_landmarks_equal_those_of_3ddfa(tmp_path: Path) -> None:
    network, arrays = write_tddfa(tmp_path)
    fitter = load_tddfa(str(tmp_path))
    crops = torch.rand(4, 3, 120, 120) * 2 - 1
    pixels = (crops.flip(1) + 1) * 127.5  # blue, green, red, as OpenCV reads
    raw = network((pixels - 127.5) / 128)
    found = fitter.estimate(crops)
    landmarks = fitter.face_model.landmarks(found)
    for row in range(4):
        numbers = (arrays["mean"] + arrays["std"] * raw[row].numpy()).astype(np.float64)
        # The published camera is nearly a rotation; ours is one, and then both agree.
        camera = numbers[:12].reshape(3, 4)
        rotation = rotation_matrices(found.pose[row : row + 1, :3])[0].double().numpy()
        camera[:, :3] = rotation * found.pose[row, 3].item() * 120 / 1e5
        expected = published_landmarks(arrays, numbers[12:], camera)
        np.testing.assert_allclose(landmarks[row].numpy(), expected, atol=1e-4)


def test_a_camera_that_is_a_scaled_rotation_is_kept() -> None:
    angles = torch.randn(20, 3) * 0.5
    scale = torch.rand(20) * 1e-3 + 1e-4
    camera = torch.cat([scale[:, None, None] * rotation_matrices(angles), torch.ones(20, 3, 1)], -1)
    pose = weak_perspective(camera)
    torch.testing.assert_close(
        rotation_matrices(pose[:, :3]), rotation_matrices(angles), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(pose[:, 3], scale * 1e5 / 120)
    torch.testing.assert_close(pose[:, 4:], torch.tensor([0.5, 119.5]).expand(20, 2) / 120)
    skewed = camera + 1e-5 * torch.randn(20, 3, 4)
    rotations = rotation_matrices(weak_perspective(skewed)[:, :3])
    torch.testing.assert_close(rotations @ rotations.mT, torch.eye(3).expand(20, 3, 3))


def test_both_published_bases_are_one_model(tmp_path: Path) -> None:
    _, arrays = write_tddfa(tmp_path)
    model = load_bfm(str(tmp_path))
    assert (model.shape_size, model.expression_size) == (40, 10)
    (tmp_path / "bfm_68_landmarks.npz").unlink()
    whole = {name: arrays[name] for name in ("u", "w_shp", "w_exp", "keypoints")}
    (tmp_path / "bfm_noneck_v3.pkl").write_bytes(pickle.dumps(whole, protocol=4))
    again = load_bfm(str(tmp_path))
    for name, buffer in model.named_buffers():
        torch.testing.assert_close(dict(again.named_buffers())[name], buffer)


def test_the_five_keypoints_are_means_of_landmarks(fitter: TddfaFitter) -> None:
    found = fitter.estimate(torch.zeros(1, 3, 120, 120))
    points, five = (
        fitter.face_model.landmarks(found)[0],
        fitter.face_model.keypoints(found)[0],
    )
    expected = [points[36:42].mean(0), points[42:48].mean(0), *points[[30, 48, 54]]]
    torch.testing.assert_close(five, torch.stack(expected))


def test_a_crop_shows_its_square() -> None:
    ramp = torch.linspace(-1, 1, 64)
    image = torch.stack([ramp.expand(64, 64), ramp.expand(64, 64).T, torch.zeros(64, 64)])[None]
    whole = crop(image, torch.tensor([[0.5, 0.5, 1.0]]), 64)
    torch.testing.assert_close(whole, image)
    small = crop(image, torch.tensor([[0.5, 0.5, 1.0]]), 16)
    torch.testing.assert_close(small, functional.avg_pool2d(image, 4))
    corner = crop(image, torch.tensor([[0.25, 0.75, 0.5]]), 32)
    inside = (..., slice(1, -1), slice(1, -1))  # beside the border of the photo is black
    torch.testing.assert_close(corner[inside], image[..., 32:, :32][inside])
    outside = crop(image, torch.tensor([[0.0, 0.5, 1.0]]), 64)
    assert (outside[..., :32] == -1).all()
    torch.testing.assert_close(outside[..., 32:], image[..., :32])


def test_a_fit_moves_with_the_face(fitter: TddfaFitter) -> None:
    """Check that a larger black image around a face changes its place and no coefficient."""
    image = torch.rand(1, 3, 128, 128) * 2 - 1
    keypoints = 0.3 + 0.4 * TEMPLATE[None]
    own = fitter.fit(image, keypoints)
    larger = functional.pad(image, (96, 32, 64, 64), value=-1.0)
    moved = fitter.fit(larger, (keypoints * 128 + torch.tensor([96, 64])) / 256)
    torch.testing.assert_close(moved.shape, own.shape, atol=1e-3, rtol=0)
    torch.testing.assert_close(moved.expression, own.expression, atol=1e-3, rtol=0)
    torch.testing.assert_close(moved.pose[:, :3], own.pose[:, :3], atol=1e-3, rtol=0)
    landmarks = [fitter.face_model.landmarks(found) for found in (own, moved)]
    shifted = (landmarks[0] * 128 + torch.tensor([96, 64])) / 256
    torch.testing.assert_close(landmarks[1], shifted, atol=1e-3, rtol=0)


def test_a_fit_knows_nothing_of_its_batch(fitter: TddfaFitter) -> None:
    images = torch.rand(3, 3, 160, 160) * 2 - 1
    sizes = torch.tensor([0.2, 0.5, 3.0])[:, None, None]
    keypoints = 0.5 + sizes * (TEMPLATE - 0.5)
    together = fitter.fit(images, keypoints)
    for row in range(3):
        alone = fitter.fit(images[row : row + 1], keypoints[row : row + 1])
        torch.testing.assert_close(alone.pose, together.pose[row : row + 1], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(alone.shape, together.shape[row : row + 1], atol=1e-4, rtol=0)


def test_the_second_look_is_at_the_landmarks_alone(fitter: TddfaFitter) -> None:
    image = torch.rand(1, 3, 96, 96) * 2 - 1
    keypoints = 0.2 + 0.5 * TEMPLATE[None]
    first = fitter._fit_in(image, around(keypoints))
    square = fitter.squares(fitter.face_model.landmarks(first))
    torch.testing.assert_close(
        fitter.fit(image, keypoints).shape, fitter._fit_in(image, square).shape
    )
    with pytest.raises(ValueError, match="square images, not to 96 x 64 pixels"):
        fitter.fit(image[..., :64], keypoints)


def test_other_files_are_refused(tmp_path: Path) -> None:
    write_tddfa(tmp_path)
    scales = tmp_path / "param_mean_std_62d_120x120.pkl"
    published = scales.read_bytes()
    scales.write_bytes(pickle.dumps({"mean": np.zeros(101), "std": np.ones(101)}))
    with pytest.raises(ValueError, match=r"has means \[101\] .* take the file for 62 numbers"):
        load_tddfa(str(tmp_path))
    scales.write_bytes(published)
    bases = tmp_path / "bfm_68_landmarks.npz"
    np.savez(
        bases, u_base=np.zeros(204), w_shp_base=np.zeros((204, 3)), w_exp_base=np.zeros((204, 3))
    )
    with pytest.raises(
        ValueError, match="has 3 shapes and 3 expressions, and 3DDFA needs 40 and 10"
    ):
        load_bfm(str(tmp_path))
    np.savez(bases, u_base=np.zeros(9), w_shp_base=np.zeros((9, 40)), w_exp_base=np.zeros((9, 10)))
    with pytest.raises(ValueError, match="does not have the coordinates of 68 landmarks"):
        load_bfm(str(tmp_path))
    scales.unlink()
    (tmp_path / "mb05_120x120.pth").unlink()
    with pytest.raises(ValueError, match=r"mb05_120x120\.pth: weights/ of .*\n.*param_mean_std"):
        load_tddfa(str(tmp_path))
