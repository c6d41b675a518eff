"""Put several people into one picture, each at a place of their own (FPGA, Sec. 3.1)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import torch
from PIL import Image
from torch import Tensor

from portraitlab.data.usable import UsablePortrait
from portraitlab.faces.alignment import FACE, face_boxes
from portraitlab.faces.regions import HEAD, box_regions
from portraitlab.types import Batch, FaceCoefficients, FaceFeatures, FaceGeometry

_log = logging.getLogger(__name__)

Picture = Image.Image | UsablePortrait
"""A photo with one face, or the result of PortraitPipeline.see."""
Box = tuple[float, float, float, float]
"""Left, top, right and bottom of a face, as fractions of the picture."""


@dataclass(frozen=True)
class GroupMember:
    """A person of a group: photos, and the box of their face in the picture to draw.

    references: references, as for PortraitPipeline; the first gives the expression.
    """

    references: Sequence[Picture]
    at: Box


def check_boxes(boxes: Sequence[Box]) -> None:
    """Check that boxes are inside the picture. Raises ValueError for one that is not."""
    for number, (left, top, right, bottom) in enumerate(boxes, start=1):
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise ValueError(
                f"The face of person {number} is at {left:g},{top:g},{right:g},{bottom:g}; give "
                "left, top, right and bottom between 0 and 1, as fractions of the picture."
            )


def warn_of_overlap(boxes: Sequence[Box]) -> None:
    """Log a warning for each two boxes that overlap."""
    for (one, first), (other, second) in combinations(enumerate(boxes, start=1), 2):
        across = min(first[2], second[2]) - max(first[0], second[0])
        down = min(first[3], second[3]) - max(first[1], second[1])
        if across > 0 and down > 0:
            _log.warning(
                "the faces of persons %d and %d overlap; the larger is drawn in front", one, other
            )


def together(samples: Sequence[Batch], boxes: Sequence[Box]) -> Batch:
    """Join the one-person batches [1] of P people to a batch [1] of one picture of them.

    Each face is moved and scaled into its box, with the expression and direction that it has. All
    else of the picture is the first sample's.
    """
    first = samples[0]
    at = torch.tensor(boxes)[None]
    geometry = FaceGeometry.cat([each.target_geometry for each in samples])
    shape = FaceGeometry.cat([each.shape_geometry for each in samples])
    most = max(each.references.mask.shape[1] for each in samples)
    references = FaceFeatures.cat([each.references.padded(most) for each in samples])
    size = first.latents.shape[-2], first.latents.shape[-1]
    there = torch.ones(1, len(samples), dtype=torch.bool)
    return replace(
        first,
        references=references[None],
        shape_geometry=shape[None],
        target_geometry=_moved(geometry, at[0])[None],
        regions=box_regions(_grown(at, HEAD / FACE), there, size),
    )


def _moved(geometry: FaceGeometry, boxes: Tensor) -> FaceGeometry:
    """Move and scale faces [P] so that their boxes have the middles and sizes of boxes [P, 4]."""
    found = face_boxes(geometry.keypoints)
    edge = (found[:, 2] - found[:, 0])[:, None]
    wanted = (boxes[:, 2:] - boxes[:, :2]).amin(dim=1, keepdim=True)
    scale = wanted / edge
    middle, to = (found[:, :2] + found[:, 2:]) / 2, (boxes[:, :2] + boxes[:, 2:]) / 2

    def move(points: Tensor) -> Tensor:
        return (points - middle[:, None]) * scale[..., None] + to[:, None]

    coefficients = geometry.coefficients
    if coefficients is not None:
        pose = coefficients.pose
        place = move(pose[:, None, 4:])[:, 0]
        moved = torch.cat([pose[:, :3], pose[:, 3:4] * scale, place], dim=1)
        coefficients = FaceCoefficients(coefficients.shape, coefficients.expression, moved)
    return FaceGeometry(move(geometry.keypoints), geometry.score, coefficients)


def _grown(boxes: Tensor, factor: float) -> Tensor:
    middle = (boxes[..., :2] + boxes[..., 2:]) / 2
    half = factor * (boxes[..., 2:] - boxes[..., :2]) / 2
    return torch.cat([middle - half, middle + half], dim=-1)
