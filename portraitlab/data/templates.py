"""Pose templates: drive images of varied head direction and size (FaceSnap, Sec. 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor


def spread_poses(keypoints: Tensor, count: int) -> list[int]:
    """Choose up to `count` faces that differ most in direction and size, the usual one first.

    keypoints [P, 5, 2]: FaceGeometry's. Direction is the nose's place between the eyes, size the
    distance of the eyes; each counts by its standard deviation. Every further face is the one
    farthest from all chosen ones, so that a shorter list is the beginning of a longer one.
    """
    left, right, nose = keypoints[:, 0], keypoints[:, 1], keypoints[:, 2]
    distance = (right - left).norm(dim=-1, keepdim=True).clamp(min=1e-6)
    poses = torch.cat([(nose - (left + right) / 2) / distance, distance.log()], dim=1)
    poses = (poses - poses.mean(0)) / poses.std(0, correction=0).clamp(min=1e-6)
    chosen = [int(poses.norm(dim=-1).argmin())]
    nearest = (poses - poses[chosen[0]]).norm(dim=-1)
    while len(chosen) < min(count, len(poses)):
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (poses - poses[chosen[-1]]).norm(dim=-1))
    return chosen
