"""Landmarks of some photos and the skeleton of others (FPGA, Sec. 4.1, third stage)."""

from __future__ import annotations

from copy import copy
from typing import Literal, get_args

import torch
from torch import Tensor

from portraitlab.faces.face3d.fitter import FaceModel
from portraitlab.method.cond.base import Cond
from portraitlab.method.cond.landmarks import LandmarkCond
from portraitlab.method.cond.skeleton import SkeletonCond
from portraitlab.support.checks import check_choice
from portraitlab.types import FaceGeometry

Drawn = Literal["landmarks", "skeleton"]


class LandmarkOrSkeletonCond(Cond):
    """Draw landmarks of about half of the photos in training, and the skeleton of the others.

    "The final phase involves training on both condition types": read as one of the two a sample,
    since a portrait is later drawn from a skeleton and a face restored from landmarks. Which of the
    two a photo shows depends on where its face is alone, so that it is drawn once.

    drawn: the control image of portraits, in evaluation mode.

    Raises ValueError for another `drawn`.
    """

    def __init__(self, face_model: FaceModel, drawn: Drawn = "skeleton") -> None:
        super().__init__()
        check_choice("cond.drawn", drawn, get_args(Drawn))
        self.landmarks = LandmarkCond(face_model)
        self.skeleton = SkeletonCond()
        self.drawn = drawn
        self.body = drawn == "skeleton"

    def of_faces(self) -> Cond:
        """Return this condition with `drawn` landmarks, since a face alone has no joints."""
        other = copy(self).eval()
        other.drawn, other.body = "landmarks", False
        return other

    def forward(
        self, shape_geometry: FaceGeometry, target_geometry: FaceGeometry, size: int
    ) -> Tensor:
        """Draw control images [B, 3, size, size] in [-1, 1]. Raises as the two conditions do."""
        given = shape_geometry, target_geometry, size
        if not self.training:
            return self.skeleton(*given) if self.drawn == "skeleton" else self.landmarks(*given)
        # Far decimals of the place of the face are as good as drawn by lot.
        lot = (1e4 * target_geometry.keypoints.double().mean(dim=(1, 2))).frac()
        chosen = (lot.abs() < 0.5)[:, None, None, None]
        return torch.where(chosen, self.landmarks(*given), self.skeleton(*given))
