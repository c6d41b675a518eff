"""The reference whose head is turned most as the target's (HiFi-Portrait, Table 5, row "angle")."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from portraitlab.faces.alignment import TEMPLATE
from portraitlab.faces.face3d.linear import rotation_matrices
from portraitlab.method.select.selection import Selection, highest
from portraitlab.types import Candidates, FaceGeometry

_NOSE = 0.5
"""How far the nose's tip stands before eyes and mouth, in distances between the eyes."""


class ClosestAngle(Selection):
    """Takes the reference with the highest S_a (eq. 9)."""

    def choose(self, candidates: Candidates, generator: torch.Generator) -> Tensor:
        """Index [B] in 0..N-1."""
        return highest(angle_of(candidates), candidates.mask)


def angle_of(candidates: Candidates) -> Tensor:
    """S_a [B, N] of references and their targets."""
    own, aim = head_rotation(candidates.references), head_rotation(candidates.target)
    return angle_score(own, aim[:, None])


def angle_score(own: Tensor, aim: Tensor) -> Tensor:
    """S_a [...] in [0, 1] of two heads' rotations [..., 3, 3]: 1 - t / (π/2), at least 0.

    t is the angle of the one rotation that takes a head to the other, from its trace; so yaw, pitch
    and roll count as what they are together. From a right angle on, where the halves of a face that
    are seen share nothing, the score is 0. The paper names S_a, and gives no formula.
    """
    trace = (own * aim).sum(dim=(-2, -1))
    turn = torch.acos(((trace - 1) / 2).clamp(-1, 1))
    return (1 - turn / (math.pi / 2)).clamp(min=0)


def head_rotation(geometry: FaceGeometry) -> Tensor:
    """Rotation [..., 3, 3] of each head, by the 3DMM or else by the five keypoints.

    Only rotations that were found in the same way can be compared.
    """
    if geometry.coefficients is not None:
        return rotation_matrices(geometry.coefficients.pose[..., :3])
    return rotation_of_keypoints(geometry.keypoints)


def rotation_of_keypoints(keypoints: Tensor) -> Tensor:
    """Rotation [..., 3, 3] of faces with keypoints [..., 5, 2], as fractions of square images.

    The least-squares affine map from five points in space (ArcFace's template, its nose raised) to
    the image, and the pair of orthonormal rows nearest to it: weak perspective, as DeMenthon and
    Davis begin (IJCV 1995). Nothing is known of the person, so a long nose is taken for a turn.
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
