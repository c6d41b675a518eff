"""S_a: the angle between two heads, by coefficients or by five points."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from portraitlab.data.photo_set import PhotoSet
from portraitlab.faces.face3d.linear import rotation_matrices
from portraitlab.method.select.angle import angle_score, head_rotation, rotation_of_keypoints
from portraitlab.types import FaceCoefficients
from portraitlab.world.pretrained import load_face_model

FACE = load_face_model()


def keypoints(angles: Tensor) -> Tensor:
    """The mean head's five points [B, 5, 2] under yaw, pitch and roll [B, 3]."""
    count = len(angles)
    pose = torch.cat([angles, torch.tensor([[0.42, 0.5, 0.45]]).repeat(count, 1)], dim=1)
    blank = torch.zeros(count, FACE.shape_size), torch.zeros(count, FACE.expression_size)
    return FACE.keypoints(FaceCoefficients(*blank, pose))


@pytest.mark.parametrize(("degrees", "score"), [(0, 1.0), (45, 0.5), (90, 0.0), (150, 0.0)])
@pytest.mark.parametrize("axis", range(3))
def test_the_score_falls_from_one_to_zero_at_a_right_angle(
    axis: int, degrees: float, score: float
) -> None:
    angles = torch.zeros(1, 3)
    angles[0, axis] = math.radians(degrees)
    own, aim = rotation_matrices(angles), rotation_matrices(torch.zeros(1, 3))
    torch.testing.assert_close(angle_score(own, aim), torch.tensor([score]), atol=1e-3, rtol=0)
    torch.testing.assert_close(angle_score(own, aim), angle_score(aim, own))


def test_turning_both_heads_alike_changes_nothing() -> None:
    one, other, both = rotation_matrices(0.4 * torch.randn(3, 3))
    torch.testing.assert_close(
        angle_score(both @ one, both @ other), angle_score(one, other), atol=1e-3, rtol=0
    )


def test_five_points_give_a_rotation_that_follows_the_head() -> None:
    straight = rotation_of_keypoints(keypoints(torch.zeros(1, 3)))
    for axis in range(3):
        angles = torch.zeros(6, 3)
        angles[:, axis] = torch.linspace(0.1, 0.6, 6)
        found = rotation_of_keypoints(keypoints(angles))
        torch.testing.assert_close(found @ found.mT, torch.eye(3).expand(6, 3, 3))
        scores = angle_score(found, straight)
        assert (scores.diff() < -0.03).all()
        if axis == 2:  # within the image, five points show all of it
            exact = 1 - angles[:, 2] / (math.pi / 2)
            torch.testing.assert_close(scores, exact, atol=1e-3, rtol=0)


def test_points_that_coincide_give_a_rotation_all_the_same() -> None:
    found = rotation_of_keypoints(torch.full((1, 5, 2), 0.5))
    assert torch.isfinite(found).all()


def test_coefficients_and_points_agree_on_photos(people: PhotoSet) -> None:
    """Both against the truth, of each photo with the next: which are turned alike."""
    geometry = people.features.geometry
    rows = torch.arange(len(people.store))
    true = rotation_matrices(people.store.true_coefficients(rows).pose[:, :3])
    known = angle_score(true, true.roll(1, 0))
    for found, least in (
        (head_rotation(geometry), 0.98),
        (rotation_of_keypoints(geometry.keypoints), 0.9),
    ):
        scores = angle_score(found, found.roll(1, 0))
        assert torch.corrcoef(torch.stack([scores, known]))[0, 1] > least
