"""DECA's coarse encoder (Feng et al., SIGGRAPH 2021, Sec. 4.1), which fits FLAME to a face."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from portraitlab.faces.face3d.files import BroughtFile, find_files
from portraitlab.faces.face3d.fitter import FaceFitter, bounds
from portraitlab.faces.face3d.flame import (
    EMBEDDING,
    EXPRESSIONS,
    MODEL,
    SHAPES,
    Flame,
    axis_rotations,
    load_flame,
)
from portraitlab.faces.face3d.linear import rotation_angles
from portraitlab.support.hashes import file_digest
from portraitlab.support.weights import load_state, read_state_dict
from portraitlab.types import FaceCoefficients

SIZES = {
    "shape": SHAPES, "albedo": 50, "expression": EXPRESSIONS, "head": 3, "jaw": 3, "camera": 3,
    "light": 27,
}  # fmt: skip
"""The encoder's 236 outputs, in their order."""

ENCODER = BroughtFile(
    ("deca_model.tar",),
    "the trained model that github.com/yfeng95/DECA links to",
    "non-commercial research only",
)

_AROUND_LANDMARKS = 1.1 * 1.25
"""Size of the crop relative to the landmarks' box, at test time."""


class CoarseEncoder(nn.Module):
    """E_c, a ResNet-50 with two linear layers: images [B, 3, 224, 224] in [0, 1] to [B, 236]."""

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import resnet50

        self.encoder = resnet50(weights=None)
        features = self.encoder.fc.in_features
        self.encoder.fc = nn.Identity()
        self.layers = nn.Sequential(
            nn.Linear(features, 1024), nn.ReLU(), nn.Linear(1024, sum(SIZES.values()))
        )

    def forward(self, images: Tensor) -> Tensor:
        """Predict the numbers of SIZES, concatenated."""
        numbers: Tensor = self.layers(self.encoder(images))
        return numbers


class DecaFitter(FaceFitter):
    """A fitter of FLAME by `network`, whose albedo and light are not used."""

    title = "DECA"
    crop_size = 224

    def __init__(self, face_model: Flame, network: nn.Module, fingerprint: str) -> None:
        super().__init__()
        self.face_model = face_model
        self.network = network
        self.fingerprint = fingerprint

    def estimate(self, crops: Tensor) -> FaceCoefficients:
        """Estimate the coefficients of faces in crops [B, 3, 224, 224] in [-1, 1]."""
        numbers = self.network((crops + 1) / 2).split(list(SIZES.values()), dim=1)
        found = dict(zip(SIZES, numbers, strict=True))
        angles = rotation_angles(axis_rotations(found["head"]))
        # Orthographic: s (x + t) in a crop from -1 to 1, y upwards (Sec. 3).
        scale, x, y = found["camera"].unbind(dim=1)
        place = torch.stack([scale / 2, (1 + scale * x) / 2, (1 - scale * y) / 2], dim=1)
        return FaceCoefficients(
            shape=found["shape"],
            expression=torch.cat([found["expression"], found["jaw"]], dim=1),
            pose=torch.cat([angles, place], dim=1),
        )

    def squares(self, landmarks: Tensor) -> Tensor:
        """Compute squares from the mean of width and height of the landmarks' box."""
        centre, extent = bounds(landmarks)
        return torch.cat([centre, _AROUND_LANDMARKS * extent.mean(dim=1, keepdim=True)], dim=1)


def load_deca(root: str) -> DecaFitter:
    """Load the fitter from a folder with DECA's trained model and FLAME's files.

    Raises ValueError where a file is missing, refused, or not the published one.
    """
    paths = find_files(root, (ENCODER, MODEL, EMBEDDING))
    with torch.device("meta"):  # initialising 25 million weights would take seconds
        network = CoarseEncoder()
    state = read_state_dict(paths[0], "face3d.root", part="E_flame")
    load_state(network, state, "face3d.root", paths[0], "coarse encoder of DECA")
    return DecaFitter(load_flame(root), network, " ".join(["deca", *map(file_digest, paths)]))
