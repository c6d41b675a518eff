"""3DDFA_V2 (Guo et al., ECCV 2020): fit the Basel Face Model to a face by a small MobileNet."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from portraitlab.faces.face3d.bfm import (
    BASES,
    POSE,
    SCALES,
    SHAPES,
    UNIT,
    all_scales,
    load_bfm,
)
from portraitlab.faces.face3d.files import BroughtFile, find_files
from portraitlab.faces.face3d.fitter import FaceFitter, bounds
from portraitlab.faces.face3d.linear import LinearFaceModel, rotation_angles
from portraitlab.faces.face3d.mobilenet import MobileNet
from portraitlab.support.hashes import file_digest
from portraitlab.support.weights import load_state, read_state_dict
from portraitlab.types import FaceCoefficients

NETWORK = BroughtFile(
    ("mb1_120x120.pth", "mb05_120x120.pth"),
    "weights/ of github.com/cleardusk/3DDFA_V2",
    "MIT",
)


class TddfaFitter(FaceFitter):
    """A fitter of `face_model` by `network`, crops [B, 3, 120, 120] to 62 standardised numbers.

    mean and deviation [62]: mean and deviation of these numbers; the first 12 are the camera.
    """

    mean: Tensor
    deviation: Tensor
    title = "3DDFA_V2"
    crop_size = 120

    def __init__(
        self,
        face_model: LinearFaceModel,
        network: nn.Module,
        mean: Tensor,
        deviation: Tensor,
        fingerprint: str,
    ) -> None:
        super().__init__()
        self.face_model = face_model
        self.network = network
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("deviation", deviation, persistent=False)
        self.fingerprint = fingerprint

    def estimate(self, crops: Tensor) -> FaceCoefficients:
        """Estimate the coefficients of faces in crops [B, 3, 120, 120] in [-1, 1]."""
        blue_first = crops.flip(1) * (127.5 / 128)  # as OpenCV reads, (pixel - 127.5) / 128
        numbers = self.network(blue_first)
        camera = (self.mean + self.deviation * numbers)[:, :POSE].unflatten(1, (3, 4))
        coefficients = numbers[:, POSE:]  # in standard deviations, the model's own unit
        return FaceCoefficients(
            coefficients[:, :SHAPES], coefficients[:, SHAPES:], weak_perspective(camera)
        )

    def squares(self, landmarks: Tensor) -> Tensor:
        """Compute squares √2 times as wide as the longer side of the landmarks' box."""
        centre, extent = bounds(landmarks)
        return torch.cat([centre, math.sqrt(2) * extent.amax(dim=1, keepdim=True)], dim=1)


def weak_perspective(camera: Tensor) -> Tensor:
    """Convert 3DDFA's affine camera [B, 3, 4] to a pose [B, 6] in fractions of the crop.

    The camera maps micrometres to pixels of the crop, counted from 1 at the left and from the
    bottom. Its rows are only nearly a rotation times a scale: the nearest one is used.
    """
    left, scales, right = torch.linalg.svd(camera[:, :2, :3], full_matrices=False)
    rows = left @ right
    depth = torch.linalg.cross(rows[:, 0], rows[:, 1])
    angles = rotation_angles(torch.cat([rows, depth[:, None]], dim=1))
    size = TddfaFitter.crop_size
    scale = scales.mean(dim=1) * UNIT / size
    x, y = (camera[:, 0, 3] - 0.5) / size, (size + 0.5 - camera[:, 1, 3]) / size
    return torch.cat([angles, torch.stack([scale, x, y], dim=1)], dim=1)


def load_tddfa(root: str) -> TddfaFitter:
    """Load the fitter from a folder with 3DDFA's network, its scales and the model's bases.

    Of two networks the wider is used. Raises ValueError where a file is missing or is another one.
    """
    paths = find_files(root, (NETWORK, BASES, SCALES))
    weights = {
        # Drop the prefix of DataParallel, and a second head for landmarks, which is not used.
        name.removeprefix("module.").replace("fc_param.", "fc."): weight
        for name, weight in read_state_dict(paths[0], "face3d.root", part="state_dict").items()
        if "fc_lm." not in name
    }
    mean, deviation = all_scales(paths[2])
    width = len(weights["conv1.weight"]) if "conv1.weight" in weights else 32
    with torch.device("meta"):
        network = MobileNet(width, outputs=len(mean))
    load_state(network, weights, "face3d.root", paths[0], "network of 3DDFA")
    return TddfaFitter(
        load_bfm(root), network, mean, deviation, " ".join(["3ddfa", *map(file_digest, paths)])
    )
