"""Estimator of the direction of a photo's light, from the shading of the face."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

CONFIG = {"grid": 6}


class LightEstimator(nn.Module):
    """A linear estimator of the unit vector to the light from a face's shading and pose.

    A diffuse surface's brightness is linear in the vector to the light times the light's share of
    all light, and so is that of each cell, relative to the face's mean, wherever no part of it
    faces away. The normals in a cell depend on the pose, so each cell's weight is linear in it.

    grid: K, of the shading (portraitlab.scoring.shading).
    """

    def __init__(self, grid: int = 6) -> None:
        super().__init__()
        self.linear = nn.Linear(4 * grid**2 + 3, 3)

    @staticmethod
    def features(shading: Tensor, pose: Tensor) -> Tensor:
        """Compute the inputs [B, 4 K K + 3] of the linear map; see `forward`."""
        cells = shading.flatten(1)
        relative = cells / cells.mean(dim=1, keepdim=True).clamp(min=1e-3) - 1
        turned = relative[:, :, None] * pose[:, None]
        return torch.cat([relative, pose, turned.flatten(1)], dim=1)

    def forward(self, shading: Tensor, pose: Tensor) -> Tensor:
        """Estimate unit vectors [B, 3] in the camera's frame, as portraitlab.world.photo.Light's.

        shading [B, K, K] in [0, 1]; pose [B, 3]: yaw, pitch, roll in radians.
        """
        return functional.normalize(self.linear(self.features(shading, pose)), dim=1)
