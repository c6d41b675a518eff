"""Choose the reference whose head pose is nearest (HiFi-Portrait, Table 5, row "angle")."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from portraitlab.faces.alignment import TEMPLATE
from portraitlab.faces.face3d.linear import rotation_matrices
from portraitlab.method.select.selection import Selection, highest
from portraitlab.types import Candidates, FaceGeometry

_NOSE = 0.5
"""Depth of the nose tip in front of eyes and mouth, in distances between the eyes."""


class ClosestAngle(Selection):
    """Choose the reference with the highest S_a (eq. 9)."""

    def choose(self, candidates: Candidates, generator: torch.Generator) -> Tensor:
        """Return indices [B] in 0..N-1."""
        return highest(angle_of(candidates), candidates.mask)


def angle_of(candidates: Candidates) -> Tensor:
    """Compute S_a [B, N] of references and their targets."""
    own, aim = head_rotation(candidates.references), head_rotation(candidates.target)
    return angle_score(own, aim[:, None])


def angle_score(own: Tensor, aim: Tensor) -> Tensor:
    """Compute S_a [...] in [0, 1] of two heads' rotations [..., 3, 3]: 1 - t / (π/2), at least 0.

    t is the angle of the rotation from one head to the other, from its trace, which combines yaw,
    pitch and roll. From a right angle on, where two views share no part of the face, the score is
    0. The paper names S_a without a formula.
    """
    trace = (own * aim).sum(dim=(-2, -1))
    turn = torch.acos(((trace - 1) / 2).clamp(-1, 1))
    return (1 - turn / (math.pi / 2)).clamp(min=0)


def head_rotation(geometry: FaceGeometry) -> Tensor:
    """Return the rotation [..., 3, 3] of each head, by the 3DMM or else by the five keypoints.

    Rotations of the 3DMM and of the keypoints cannot be compared with each other.
    """
    if geometry.coefficients is not None:
        return rotation_matrices(geometry.coefficients.pose[..., :3])
    return rotation_of_keypoints(geometry.keypoints)


def rotation_of_keypoints(keypoints: Tensor) -> Tensor:
    """Estimate rotations [..., 3, 3] from keypoints [..., 5, 2] in fractions of square images.

    Fits the least-squares affine map from five points in space (ArcFace's template with a raised
    nose) to the image, and takes the nearest pair of orthonormal rows: weak perspective, the first
    step of DeMenthon and Davis (IJCV 1995). The points are the same for all people, so a long nose
    is mistaken for a rotation.
    """
    raised = torch.zeros(len(TEMPLATE), 1)
    raised[2] = _NOSE * (TEMPLATE[1] - TEMPLATE[0]).norm()
    points = torch.cat([TEMPLATE, raised], dim=1)
    solve = torch.linalg.pinv(points - points.mean(dim=0)).to(keypoints)
    affine = (solve @ (keypoints - keypoints.mean(dim=-2, keepdim=True))).mT
    left, _, right = torch.linalg.svd(affine, full_matrices=False)
    rows = left @ right
    depth = torch.linalg.cross(rows[..., 0, :], rows[..., 1, :])
    return torch.cat([rows, depth[..., None, :]], dim=-2)
