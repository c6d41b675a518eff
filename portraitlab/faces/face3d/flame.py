"""FLAME (Li et al., SIGGRAPH Asia 2017): a head of blend shapes, skinned over a few joints."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from portraitlab.faces.face3d.files import BroughtFile, find_files, tensors_of
from portraitlab.faces.face3d.fitter import five_of
from portraitlab.faces.face3d.linear import rotation_matrices
from portraitlab.types import FaceCoefficients

SHAPES, EXPRESSIONS = 100, 50
"""How many of the published bases DECA uses, and so do we."""

_FIRST_EXPRESSION = 300
"""In the published file 300 shapes come first and then the expressions."""

_JAW = 2
"""The joint of the jaw, after the root and the neck and before the eyes."""

_MOST_YAW = 39
"""Degrees of yaw for which a row of the contour's table is published, to either side."""

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
    """W(T_P(β, θ, ψ), J(β), θ, 𝒲) of FLAME's eqs. 1 to 5, seen at 68 landmarks.

    Expression coefficients are FLAME's, and then the jaw's turn as an axis times an angle, which
    opens the mouth and so is an expression here. Neck and eyes stay as they are. Head units are
    metres; the head turns about its root joint, and the pose's x and y are the model's origin.

    Args:
        template: T, [V, 3], x to the image's right, y up, z at the viewer.
        shape_basis: S, [S, V, 3], and expression_basis: E, [E, V, 3].
        pose_basis: P, [9 (J - 1), V, 3], for the entries of the rotations of all joints but the
            root, less those at rest.
        joints: 𝒥, [J, V], which gives the joints' places by the vertices'.
        parents: [J], the joint that each hangs on, before it in order; the root's is not read.
        skinning: 𝒲, [V, J], the share that each joint has of a vertex.
        faces: [F, 3], vertices of the triangles.
        static: triangles [51] and barycentric coordinates [51, 3] of the landmarks that stand
            fast: brows, nose, eyes and mouth.
        contour: triangles [79, 17] and coordinates [79, 17, 3] of the jaw's outline, as seen at
            yaws of 0 to 39 and then of -1 to -39 degrees.
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
        """All vertices [B, V, 3] in metres, with the head turned."""
        expression, jaw = coefficients.expression.tensor_split([self.expression_size - 3], dim=1)
        batch = len(jaw)
        rotations = torch.eye(3).to(jaw).repeat(batch, len(self.joints), 1, 1)
        rotations[:, 0] = rotation_matrices(coefficients.pose[:, :3])
        rotations[:, _JAW] = axis_rotations(jaw)
        # Joints follow the face at rest, which here has its expression too, as in the published
        # code; in the paper they follow the shape alone (eq. 2).
        rest = (
            self.template
            + torch.einsum("bs,svc->bvc", coefficients.shape, self.shape_basis)
            + torch.einsum("be,evc->bvc", expression, self.expression_basis)
        )
        joints = self.joints @ rest
        bent = (rotations[:, 1:] - torch.eye(3).to(jaw)).flatten(1)  # eq. 4
        posed = rest + torch.einsum("bp,pvc->bvc", bent, self.pose_basis)  # eq. 3
        # Where each joint's frame stands and how it is turned, after all those that it hangs on.
        turns, places = [rotations[:, 0]], [joints[:, 0]]
        for joint, parent in enumerate(self.parents, start=1):
            arm = joints[:, joint] - joints[:, parent]
            turns.append(turns[parent] @ rotations[:, joint])
            places.append(places[parent] + (turns[parent] @ arm[..., None])[..., 0])
        turn, place = torch.stack(turns, dim=1), torch.stack(places, dim=1)
        shift = place - (turn @ joints[..., None])[..., 0]
        # Linear blend skinning: a vertex's own turn is the mean of its joints' (eq. 1).
        own_turn = torch.einsum("vj,bjmn->bvmn", self.skinning, turn)
        return (own_turn @ posed[..., None])[..., 0] + self.skinning @ shift

    def landmarks(self, coefficients: FaceCoefficients) -> Tensor:
        """68 landmarks as image fractions [B, 68, 2], the jaw's outline as it is seen."""
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
        flat = points[..., :2] * pose.new_tensor([1.0, -1.0])  # image rows run down
        return pose[:, None, 4:6] + pose[:, None, 3:4] * flat

    def keypoints(self, coefficients: FaceCoefficients) -> Tensor:
        """The five keypoints as image fractions [B, 5, 2]."""
        return five_of(self.landmarks(coefficients))


def contour_rows(pose: Tensor) -> Tensor:
    """Which row [B] of the contour's table shows heads of this pose [B, 6].

    By the turn about the vertical axis, in whole degrees and not beyond the table: rows 0 to 39
    are for as many degrees, rows 40 to 78 for -1 to -39.
    """
    rotation = rotation_matrices(pose[:, :3])
    sideways = rotation[:, 0, 0].hypot(rotation[:, 1, 0])
    degrees = torch.atan2(-rotation[:, 2, 0], sideways) * (180 / math.pi)
    whole = degrees.round().long().clamp(-_MOST_YAW, _MOST_YAW)
    return torch.where(whole < 0, _MOST_YAW - whole, whole)


def axis_rotations(turns: Tensor) -> Tensor:
    """Rotations [B, 3, 3] by turns [B, 3], each an axis times an angle in radians (Rodrigues)."""
    x, y, z = turns.unbind(dim=-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    return torch.linalg.matrix_exp(cross)


def load_flame(root: str) -> Flame:
    """FLAME, from a folder with its model and DECA's embedding of the landmarks.

    Raises ValueError where a file is missing, refused, or not the published one.
    """
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
            f"{embedding} names triangle {last}, and {model} has {len(faces)}: they are not of one "
            "mesh. Take the published files of both."
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
