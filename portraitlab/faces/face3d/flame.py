"""FLAME (Li et al., SIGGRAPH Asia 2017): a head model of blend shapes, skinned over joints."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from portraitlab.faces.face3d.files import BroughtFile, find_files, tensors_of
from portraitlab.faces.face3d.fitter import five_of, with_pupils_and_temples
from portraitlab.faces.face3d.linear import rotation_matrices
from portraitlab.types import FaceCoefficients

SHAPES, EXPRESSIONS = 100, 50
"""Numbers of the published bases that DECA, and so this model, uses."""

_FIRST_EXPRESSION = 300
"""Index of the first expression in the published file, after 300 shapes."""

_JAW = 2
"""Index of the jaw's joint, after the root and the neck and before the eyes."""

_MOST_YAW = 39
"""Largest yaw in degrees, to either side, in the published table of contours."""

_TERMS = "non-commercial research only; register there"

MODEL = BroughtFile(
    ("generic_model.pkl", "generic_model.npz"), "FLAME 2020 of flame.is.tue.mpg.de", _TERMS
)
EMBEDDING = BroughtFile(
    ("landmark_embedding.npy",),
    "data/ of github.com/yfeng95/DECA",
    "non-commercial research only, as DECA",
)


class Flame(nn.Module):
    """W(T_P(β, θ, ψ), J(β), θ, 𝒲) of FLAME's eqs. 1 to 5, projected at 68 landmarks.

    Expression coefficients are FLAME's, then the jaw's rotation as an axis times an angle, since
    opening the mouth is an expression. Neck and eyes are at rest. Head units are metres; the head
    rotates about its root joint, and the pose's x and y are the model's origin.

    Args:
        template: T, [V, 3], x to the image's right, y up, z towards the viewer.
        shape_basis: S, [S, V, 3], and expression_basis: E, [E, V, 3].
        pose_basis: P, [9 (J - 1), V, 3], for the entries of the rotations of all joints but the
            root, minus those at rest.
        joints: 𝒥, [J, V], regresses the joints' positions from the vertices.
        parents: [J], parent of each joint, earlier in order; the root's entry is not read.
        skinning: 𝒲, [V, J], weights of the joints at each vertex.
        faces: [F, 3], vertices of the triangles.
        static: triangles [51] and barycentric coordinates [51, 3] of the fixed landmarks: brows,
            nose, eyes and mouth.
        contour: triangles [79, 17] and coordinates [79, 17, 3] of the jaw's outline at yaws of 0
            to 39 and then of -1 to -39 degrees.
    """

    template: Tensor
    shape_basis: Tensor
    expression_basis: Tensor
    pose_basis: Tensor
    joints: Tensor
    skinning: Tensor
    static_vertices: Tensor
    static_shares: Tensor
    contour_vertices: Tensor
    contour_shares: Tensor

    def __init__(
        self,
        template: Tensor,
        shape_basis: Tensor,
        expression_basis: Tensor,
        pose_basis: Tensor,
        joints: Tensor,
        parents: Tensor,
        skinning: Tensor,
        faces: Tensor,
        static: tuple[Tensor, Tensor],
        contour: tuple[Tensor, Tensor],
    ) -> None:
        super().__init__()
        self.parents = [int(parent) for parent in parents[1:]]
        # Look up the vertices of the landmarks' triangles.
        buffers = {
            "template": template,
            "shape_basis": shape_basis,
            "expression_basis": expression_basis,
            "pose_basis": pose_basis,
            "joints": joints,
            "skinning": skinning,
            "static_vertices": faces[static[0]],
            "static_shares": static[1],
            "contour_vertices": faces[contour[0]],
            "contour_shares": contour[1],
        }
        for name, tensor in buffers.items():
            self.register_buffer(name, tensor, persistent=False)

    @property
    def shape_size(self) -> int:
        """Number of shape coefficients, S."""
        return len(self.shape_basis)

    @property
    def expression_size(self) -> int:
        """Number of expression coefficients with the jaw's three, E + 3."""
        return len(self.expression_basis) + 3

    def vertices(self, coefficients: FaceCoefficients) -> Tensor:
        """Compute all vertices [B, V, 3] in metres, with the head rotated."""
        expression, jaw = coefficients.expression.tensor_split([self.expression_size - 3], dim=1)
        batch = len(jaw)
        rotations = torch.eye(3).to(jaw).repeat(batch, len(self.joints), 1, 1)
        rotations[:, 0] = rotation_matrices(coefficients.pose[:, :3])
        rotations[:, _JAW] = axis_rotations(jaw)
        # The joints are regressed from the face at rest with its expression, as in the published
        # code; in the paper from the shape alone (eq. 2).
        rest = (
            self.template
            + torch.einsum("bs,svc->bvc", coefficients.shape, self.shape_basis)
            + torch.einsum("be,evc->bvc", expression, self.expression_basis)
        )
        joints = self.joints @ rest
        bent = (rotations[:, 1:] - torch.eye(3).to(jaw)).flatten(1)  # eq. 4
        posed = rest + torch.einsum("bp,pvc->bvc", bent, self.pose_basis)  # eq. 3
        # Rotation and position of each joint's frame, accumulated from its parents.
        turns, places = [rotations[:, 0]], [joints[:, 0]]
        for joint, parent in enumerate(self.parents, start=1):
            arm = joints[:, joint] - joints[:, parent]
            turns.append(turns[parent] @ rotations[:, joint])
            places.append(places[parent] + (turns[parent] @ arm[..., None])[..., 0])
        turn, place = torch.stack(turns, dim=1), torch.stack(places, dim=1)
        shift = place - (turn @ joints[..., None])[..., 0]
        # Linear blend skinning: a vertex's rotation is the weighted mean of its joints' (eq. 1).
        own_turn = torch.einsum("vj,bjmn->bvmn", self.skinning, turn)
        return (own_turn @ posed[..., None])[..., 0] + self.skinning @ shift

    def landmarks(self, coefficients: FaceCoefficients) -> Tensor:
        """Project 68 landmarks as image fractions [B, 68, 2], with the visible jaw outline."""
        vertices = self.vertices(coefficients)
        rows = contour_rows(coefficients.pose)
        chosen = [
            (self.contour_vertices[rows], self.contour_shares[rows]),
            (
                self.static_vertices.expand(len(rows), -1, -1),
                self.static_shares.expand(len(rows), -1, -1),
            ),
        ]
        corners, shares = (torch.cat(parts, dim=1) for parts in zip(*chosen, strict=True))
        batch = torch.arange(len(rows), device=rows.device)[:, None, None]
        points = (vertices[batch, corners] * shares[..., None]).sum(dim=2)
        pose = coefficients.pose
        flat = points[..., :2] * pose.new_tensor([1.0, -1.0])  # y points down in images
        return pose[:, None, 4:6] + pose[:, None, 3:4] * flat

    def landmarks72(self, coefficients: FaceCoefficients) -> Tensor:
        """Project landmarks, pupils and temples as image fractions [B, 72, 2]."""
        return with_pupils_and_temples(self.landmarks(coefficients))

    def keypoints(self, coefficients: FaceCoefficients) -> Tensor:
        """Project the five keypoints as image fractions [B, 5, 2]."""
        return five_of(self.landmarks(coefficients))


def contour_rows(pose: Tensor) -> Tensor:
    """Choose the row [B] of the contour's table for heads of this pose [B, 6].

    The row depends on the yaw, rounded to whole degrees and clamped to the table: rows 0 to 39 are
    for 0 to 39 degrees, rows 40 to 78 for -1 to -39.
    """
    rotation = rotation_matrices(pose[:, :3])
    sideways = rotation[:, 0, 0].hypot(rotation[:, 1, 0])
    degrees = torch.atan2(-rotation[:, 2, 0], sideways) * (180 / math.pi)
    whole = degrees.round().long().clamp(-_MOST_YAW, _MOST_YAW)
    return torch.where(whole < 0, _MOST_YAW - whole, whole)


def axis_rotations(turns: Tensor) -> Tensor:
    """Convert turns [B, 3], each an axis times an angle in radians, to rotations [B, 3, 3]."""
    x, y, z = turns.unbind(dim=-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    return torch.linalg.matrix_exp(cross)  # Rodrigues' formula


def load_flame(root: str) -> Flame:
    """Load FLAME from a folder with its model and DECA's embedding of the landmarks.

    Raises ValueError where a file is missing, refused, or not the published one.
    """
    # Read the model.
    model, embedding = find_files(root, (MODEL, EMBEDDING))
    template, basis, pose_basis, joints, tree, skinning, faces = tensors_of(
        model,
        ("v_template", "shapedirs", "posedirs", "J_regressor", "kintree_table", "weights", "f"),
    )
    if basis.shape[-1] < _FIRST_EXPRESSION + EXPRESSIONS:
        raise ValueError(
            f"{model} has {basis.shape[-1]} bases, and DECA needs FLAME's 300 shapes and "
            f"{EXPRESSIONS} expressions after them; take generic_model.pkl of FLAME 2020."
        )
    bases = basis.movedim(-1, 0)
    # Read the landmarks on its mesh.
    static = tensors_of(embedding, ("static_lmk_faces_idx", "static_lmk_bary_coords"))
    contour = tensors_of(embedding, ("dynamic_lmk_faces_idx", "dynamic_lmk_bary_coords"))
    if static[0].shape != (51,) or contour[0].shape != (2 * _MOST_YAW + 1, 17):
        raise ValueError(
            f"{embedding} has {list(static[0].shape)} fixed and {list(contour[0].shape)} contour "
            "landmarks instead of [51] and [79, 17]; take DECA's file, not RingNet's."
        )
    last = max(int(static[0].max()), int(contour[0].max()))
    if last >= len(faces):
        raise ValueError(
            f"{embedding} names triangle {last}, and {model} has {len(faces)}: they are not of the "
            "same mesh. Use the published files of both."
        )
    return Flame(
        template=template,
        shape_basis=bases[:SHAPES].contiguous(),
        expression_basis=bases[_FIRST_EXPRESSION : _FIRST_EXPRESSION + EXPRESSIONS].contiguous(),
        pose_basis=pose_basis.movedim(-1, 0).contiguous(),
        joints=joints,
        parents=tree[0],
        skinning=skinning,
        faces=faces,
        static=(static[0], static[1]),
        contour=(contour[0], contour[1]),
    )
