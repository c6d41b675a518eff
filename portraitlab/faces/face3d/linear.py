"""A linear 3D morphable face model, projected at its landmarks in weak perspective.

The miniature world's head and the Basel Face Model at 68 landmarks have this form. The landmark
generator (HiFi-Portrait, Sec. 3.2) needs it to project one person's shape with another's
expression and pose.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from portraitlab.faces.face3d.fitter import with_pupils_and_temples
from portraitlab.support.precision import without_autocast
from portraitlab.types import FaceCoefficients


def rotation_matrices(angles: Tensor) -> Tensor:
    """Compute rotations [B, 3, 3] of yaw, pitch, roll [B, 3] in radians, applied in this order."""
    (cy, cp, cr), (sy, sp, sr) = torch.cos(angles).unbind(-1), torch.sin(angles).unbind(-1)
    zero, one = torch.zeros_like(cy), torch.ones_like(cy)

    def matrix(*entries: Tensor) -> Tensor:
        return torch.stack(entries, -1).unflatten(-1, (3, 3))

    turn = matrix(cy, zero, sy, zero, one, zero, -sy, zero, cy)
    nod = matrix(one, zero, zero, zero, cp, -sp, zero, sp, cp)
    tilt = matrix(cr, -sr, zero, sr, cr, zero, zero, zero, one)
    return tilt @ nod @ turn


def rotation_angles(rotations: Tensor) -> Tensor:
    """Compute yaw, pitch, roll [B, 3] in radians of [B, 3, 3], the inverse of rotation_matrices."""
    yaw = torch.atan2(-rotations[:, 2, 0], rotations[:, 2, 2])
    pitch = torch.asin(rotations[:, 2, 1].clamp(-1, 1))
    roll = torch.atan2(-rotations[:, 0, 1], rotations[:, 1, 1])
    return torch.stack([yaw, pitch, roll], dim=-1)


class LinearFaceModel(nn.Module):
    """points = mean + shape · shape_basis + expression · expression_basis, then rotated and placed.

    Args:
        mean: [K, 3] in head units (x to the image's right, y up, z towards the viewer).
        shape_basis: [S, K, 3].
        expression_basis: [E, K, 3].
        keypoints: indices of the five keypoints among the K points.
        landmarks: number of landmarks, the first of the K points.
        beyond: indices of pupils and temples among the K points; None derives them from the
            landmarks.
    """

    mean: Tensor
    shape_basis: Tensor
    expression_basis: Tensor

    def __init__(
        self,
        mean: Tensor,
        shape_basis: Tensor,
        expression_basis: Tensor,
        keypoints: tuple[int, ...],
        landmarks: int = 68,
        beyond: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("shape_basis", shape_basis, persistent=False)
        self.register_buffer("expression_basis", expression_basis, persistent=False)
        self.keypoint_index = list(keypoints)
        self.landmark_count = landmarks
        self.beyond_index = None if beyond is None else list(beyond)

    @property
    def shape_size(self) -> int:
        """Number of shape coefficients, S."""
        return len(self.shape_basis)

    @property
    def expression_size(self) -> int:
        """Number of expression coefficients, E."""
        return len(self.expression_basis)

    def points(self, coefficients: FaceCoefficients) -> Tensor:
        """Project all K points as image fractions [B, K, 2]."""
        pose = coefficients.pose
        # In bfloat16 places would be off by a tenth of a pixel, for products that cost nothing.
        with without_autocast(pose.device):
            shaped = torch.einsum("bs,skc->bkc", coefficients.shape, self.shape_basis)
            moved = torch.einsum("be,ekc->bkc", coefficients.expression, self.expression_basis)
            turned = (self.mean + shaped + moved) @ rotation_matrices(pose[:, :3]).mT
        flat = turned[..., :2] * pose.new_tensor([1.0, -1.0])  # y points down in images
        return pose[:, None, 4:6] + pose[:, None, 3:4] * flat

    def landmarks(self, coefficients: FaceCoefficients) -> Tensor:
        """Project the landmarks as image fractions [B, 68, 2]."""
        return self.points(coefficients)[:, : self.landmark_count]

    def landmarks72(self, coefficients: FaceCoefficients) -> Tensor:
        """Project landmarks, pupils and temples as image fractions [B, 72, 2]."""
        points = self.points(coefficients)
        landmarks = points[:, : self.landmark_count]
        if self.beyond_index is None:
            return with_pupils_and_temples(landmarks)
        return torch.cat([landmarks, points[:, self.beyond_index]], dim=1)

    def keypoints(self, coefficients: FaceCoefficients) -> Tensor:
        """Project the five keypoints as image fractions [B, 5, 2]."""
        return self.points(coefficients)[:, self.keypoint_index]
