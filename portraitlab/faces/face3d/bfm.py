"""The Basel Face Model at 68 landmarks (Paysan et al., AVSS 2009), as 3DDFA publishes it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from portraitlab.faces.face3d.files import BroughtFile, find_files, tensors_of
from portraitlab.faces.face3d.fitter import five_of
from portraitlab.faces.face3d.linear import LinearFaceModel

SHAPES, EXPRESSIONS = 40, 10
"""Numbers of the model's bases that 3DDFA uses."""

POSE = 12
"""Number of 3DDFA's 62 outputs that are the camera; the others are coefficients."""

UNIT = 1e5
"""Micrometres (the unit of the published numbers) per head unit."""

_RESEARCH = "numbers of the Basel Face Model 2009: research only, with the licence of its authors"

BASES = BroughtFile(
    ("bfm_68_landmarks.npz", "bfm_noneck_v3.pkl"),
    "the first from github.com/1996scarlet/Dense-Head-Pose-Estimation, the second from configs/ "
    "of github.com/cleardusk/3DDFA_V2",
    _RESEARCH,
)
SCALES = BroughtFile(
    ("param_mean_std_62d_120x120.pkl",), "configs/ of github.com/cleardusk/3DDFA_V2", "MIT"
)


def load_bfm(root: str) -> LinearFaceModel:
    """Load the model from a folder with its bases and with 3DDFA's mean and deviation.

    Its coefficients are 3DDFA's 40 of shape and 10 of expression in standard deviations, as
    3DDFA's network predicts them. Raises ValueError where a file is missing or is another one.
    """
    bases, scales = find_files(root, (BASES, SCALES))
    mean, shape, expression = _bases(bases)
    offset, scale = coefficient_scales(scales)
    points = mean + shape @ offset[:SHAPES] + expression @ offset[SHAPES:]
    deviations = torch.cat([shape, expression], dim=1) * scale
    # Row 3k + c of the published matrices is coordinate c of landmark k.
    landmarks = torch.cat([points[:, None], deviations], dim=1).T.reshape(-1, 68, 3) / UNIT
    whole = torch.cat([landmarks, five_of(landmarks)], dim=1)
    return LinearFaceModel(
        mean=whole[0],
        shape_basis=whole[1 : 1 + SHAPES],
        expression_basis=whole[1 + SHAPES :],
        keypoints=tuple(range(68, 73)),
    )


def coefficient_scales(path: Path) -> tuple[Tensor, Tensor]:
    """Read mean and standard deviation [50] of the shape, then the expression coefficients."""
    mean, deviation = all_scales(path)
    return mean[POSE:], deviation[POSE:]


def all_scales(path: Path) -> tuple[Tensor, Tensor]:
    """Read mean and standard deviation [62] of all outputs of 3DDFA's network."""
    mean, deviation = tensors_of(path, ("mean", "std"))
    count = POSE + SHAPES + EXPRESSIONS
    if mean.shape != (count,) or deviation.shape != (count,):
        raise ValueError(
            f"{path} has means {list(mean.shape)} and deviations {list(deviation.shape)} instead "
            f"of {count} each; take the file for 62 numbers."
        )
    return mean, deviation


def _bases(path: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Read mean [204], shape [204, 40] and expression [204, 10] of 68 landmarks, in micrometres."""
    if path.suffix == ".npz":
        mean, shape, expression = tensors_of(path, ("u_base", "w_shp_base", "w_exp_base"))
    else:  # the whole face; `keypoints` are the rows of the landmarks
        *whole, rows = tensors_of(path, ("u", "w_shp", "w_exp", "keypoints"))
        mean, shape, expression = (each[rows.flatten()] for each in whole)
    if mean.numel() != 204 or shape.shape[0] != 204 or expression.shape[0] != 204:
        raise ValueError(
            f"{path} does not have the coordinates of 68 landmarks; download it again."
        )
    if shape.shape[1] < SHAPES or expression.shape[1] < EXPRESSIONS:
        raise ValueError(
            f"{path} has {shape.shape[1]} shapes and {expression.shape[1]} expressions, and "
            f"3DDFA needs {SHAPES} and {EXPRESSIONS}; download the published file."
        )
    return mean.flatten(), shape[:, :SHAPES], expression[:, :EXPRESSIONS]
