"""Look at the people of a picture one by one, as portraits of them (FPGA, Sec. 4.1)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.ops import box_iou, roi_align

from portraitlab.faces.alignment import face_boxes
from portraitlab.faces.detector.base import find_faces
from portraitlab.scoring.judge import Judge
from portraitlab.types import View

PORTRAIT = 4.6
"""Edge of a close-up in the units of face_boxes, so that a face is as large as in a portrait."""
LEAST_OVERLAP = 0.5
"""Intersection over union from which a face is at a person's place, FPGA's."""


def view_people(
    judge: Judge,
    pictures: Tensor,
    place: Tensor,
    keypoints: Tensor,
    size: int,
    again: bool = False,
    wanted: Collection[str] = (),
) -> View:
    """Measure each person of pictures [D, 3, H, W] in [-1, 1]: a view [S].

    place [S]: the picture of each person. keypoints [S, 5, 2]: where the person's face should be,
    as fractions of the picture. size: size in pixels of the judge's close-ups of faces.
    again, wanted: see Judge.view.

    The faces that the detector finds in a picture are assigned to its people so that their boxes
    overlap most in total; a person whose face overlaps by LEAST_OVERLAP or less has no face.

    Raises ValueError for a judge without a detector.
    """
    if judge.detector is None:
        raise ValueError(
            "Scoring bodies and groups needs a detector of their faces; choose canvas=bodies, or "
            "give judge.detector='${detector}'."
        )
    # Find the faces, and assign them.
    points = keypoints.clone()
    found = torch.zeros(len(place), dtype=torch.bool)
    count = torch.zeros(len(pictures), dtype=torch.long)
    for number, picture in enumerate(pictures):
        faces = find_faces(judge.detector, picture)
        people = (place == number).nonzero().flatten()
        count[number] = len(faces)
        for person, face in assigned(keypoints[people], faces.keypoints):
            points[people[person]], found[people[person]] = faces.keypoints[face], True

    # Look at each as at a portrait, and at each picture as a whole.
    of_pictures = set(wanted) & {"dino"}
    near = judge.view([_close_ups(pictures, place, points, size)], again, set(wanted) - of_pictures)
    whole = judge.view([pictures], again, of_pictures)[place]
    return replace(
        near,
        picture=whole.picture,
        features=whole.features,
        dino=whole.dino,
        has_face=near.has_face & found,
        faces=count[place],
    )


def view_faces(judge: Judge, pictures: Tensor, size: int) -> View:
    """Measure the close-ups of all faces that are found in real pictures [D, 3, H, W]: a view [F].

    size: see view_people. The judge must have a detector.
    """
    assert judge.detector is not None
    points = [find_faces(judge.detector, picture).keypoints for picture in pictures]
    place = torch.arange(len(points)).repeat_interleave(torch.tensor([*map(len, points)]))
    return judge.view([_close_ups(pictures, place, torch.cat(points), size)], again=True)


def _close_ups(pictures: Tensor, place: Tensor, points: Tensor, size: int) -> Tensor:
    """Cut out faces [S, 3, size, size] with keypoints [S, 5, 2] from the pictures at place [S]."""
    boxes = face_boxes(points, PORTRAIT) * pictures.shape[-1]
    rois = torch.cat([place[:, None].to(boxes), boxes], dim=1)
    return roi_align(pictures.clamp(-1, 1), rois, (size, size), aligned=True)


def assigned(people: Tensor, faces: Tensor) -> list[tuple[int, int]]:
    """Assign faces [K, 5, 2] to people [P, 5, 2] by their keypoints: pairs of numbers.

    Kuhn's assignment (1955) with the greatest sum of intersections over union of their boxes.
    """
    if not len(people) or not len(faces):
        return []
    overlap = np.asarray(box_iou(face_boxes(people), face_boxes(faces)))
    pairs = zip(*linear_sum_assignment(overlap, maximize=True), strict=True)
    return [(int(p), int(f)) for p, f in pairs if overlap[p, f] > LEAST_OVERLAP]
