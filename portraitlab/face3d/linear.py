"""A linear 3D morphable face model seen at its landmarks, under weak perspective.

The world's own head, and the Basel Face Model at 68 landmarks, are of this form; it is what
the landmark generator needs (HiFi-Portrait, Sec. 3.2): the landmarks of one person's shape under
another's expression and pose.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from portraitlab.backbone.precisions import without_autocast
from portraitlab.types import FaceCoefficients


def rotation_matrices(angles: Tensor) -> Tensor:
    """[B, 3, 3] for yaw, pitch, roll [B, 3] in radians: roll after pitch after yaw."""
    (cy, cp, cr), (sy, sp, sr) = torch.cos(angles).unbind(-1), torch.sin(angles).unbind(-1)
    zero, one = torch.zeros_like(cy), torch.ones_like(cy)

    def matrix(*entries: Tensor) -> Tensor:
        return torch.stack(entries, -1).unflatten(-1, (3, 3))

    turn = matrix(cy, zero, sy, zero, one, zero, -sy, zero, cy)
    nod = matrix(one, zero, zero, zero, cp, -sp, zero, sp, cp)
    tilt = matrix(cr, -sr, zero, sr, cr, zero, zero, zero, one)
    return tilt @ nod @ turn


def rotation_angles(rotations: Tensor) -> Tensor:
    """Yaw, pitch, roll [B, 3] in radians of [B, 3, 3]: rotation_matrices, the other way round."""
    yaw = torch.atan2(-rotations[:, 2, 0], rotations[:, 2, 2])
    pitch = torch.asin(rotations[:, 2, 1].clamp(-1, 1))
    roll = torch.atan2(-rotations[:, 0, 1], rotations[:, 1, 1])
    return torch.stack([yaw, pitch, roll], dim=-1)


class LinearFaceModel(nn.Module):
    """points = mean + shape · shape_basis + expression · expression_basis, then rotated and placed.

    Args:
        mean: [K, 3] in head units (x to the image's right, y up, z at the viewer).
        shape_basis: [S, K, 3].
        expression_basis: [E, K, 3].
        keypoints: which of the K points are the five keypoints.
        landmarks: how many of the K points, from the first, are the landmarks.
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
    ) -> None:
        super().__init__()
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("shape_basis", shape_basis, persistent=False)
        self.register_buffer("expression_basis", expression_basis, persistent=False)
        self.keypoint_index = list(keypoints)
        self.landmark_count = landmarks

    @property
    def shape_size(self) -> int:
        """Number of shape coefficients, S."""
        return len(self.shape_basis)

    @property
    def expression_size(self) -> int:
        """Number of expression coefficients, E."""
        return len(self.expression_basis)

    def points(self, coefficients: FaceCoefficients) -> Tensor:
        """All K points as image fractions [B, K, 2]."""
        pose = coefficients.pose
        # In bfloat16 places would be off by a tenth of a pixel, for products that cost nothing.
        with without_autocast(pose.device):
            shaped = torch.einsum("bs,skc->bkc", coefficients.shape, self.shape_basis)
            moved = torch.einsum("be,ekc->bkc", coefficients.expression, self.expression_basis)
            turned = (self.mean + shaped + moved) @ rotation_matrices(pose[:, :3]).mT
        flat = turned[..., :2] * pose.new_tensor([1.0, -1.0])  # image rows run down
        return pose[:, None, 4:6] + pose[:, None, 3:4] * flat

    def landmarks(self, coefficients: FaceCoefficients) -> Tensor:
        """Landmarks as image fractions [B, 68, 2]."""
        return self.points(coefficients)[:, : self.landmark_count]

    def keypoints(self, coefficients: FaceCoefficients) -> Tensor:
        """The five keypoints as image fractions [B, 5, 2]."""
        return self.points(coefficients)[:, self.keypoint_index]
