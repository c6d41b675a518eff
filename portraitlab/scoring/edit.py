"""Edit drawn portraits before they are judged."""

from __future__ import annotations

import logging
from dataclasses import replace

import torch
from torch import Tensor

from portraitlab.faces.encoder.face_encoder import FaceEncoder
from portraitlab.method.edit.base import PROMPT, Edit, KnownFaces
from portraitlab.method.model import PortraitModel
from portraitlab.scoring.draw import Portraits
from portraitlab.scoring.people import assigned

_LOG = logging.getLogger(__name__)


@torch.no_grad()
def edit_portraits(
    edit: Edit, model: PortraitModel, encoder: FaceEncoder, portraits: Portraits
) -> Portraits:
    """Edit the face of each person of drawn portraits.

    In a portrait of one person it is the best face, in one of several people the face at the
    person's place, see `assigned`. encoder must be on the model's device. Faces that are not found,
    or that the edit leaves as they are, are unchanged; the log has their number.

    Raises ValueError for several people where a net reads a profile.
    """
    if not edit.changes:
        return portraits
    # Find each person's face.
    batch = portraits.batch
    several = batch.regions is not None
    if several and batch.pictures is not None:
        raise ValueError(
            "a net that reads a profile edits portraits of one person; for groups write them with "
            "task=sample, and edit the folder with task=restore pictures=FOLDER faces=FOLDER"
        )
    chosen: list[tuple[int, int]] = []
    points: list[Tensor] = []
    for picture, image in enumerate(portraits.images):
        faces = edit.find(image)
        if several:
            there = batch.references.mask[picture].any(dim=-1).nonzero().flatten()
            expected = batch.target_geometry.keypoints[picture, there]
            for person, face in assigned(expected, faces.keypoints):
                chosen.append((picture, int(there[person])))
                points.append(faces.keypoints[face])
        elif len(faces):
            chosen.append((picture, 0))
            points.append(faces.keypoints[0])
    if not chosen:
        _LOG.info("edited no face: none is found in %d portraits", len(portraits.images))
        return portraits

    # Edit them with their person's references.
    rows, people = torch.tensor(chosen).unbind(dim=1)
    own = (rows, people) if several else rows
    text = model.backbone.encode_text([PROMPT]).to("cpu")
    known = KnownFaces(
        rows,
        torch.stack(points),
        text.expand(len(rows)),
        batch.references[own],
        batch.shape_geometry[own],
        None if batch.pictures is None else batch.pictures[rows],
    )
    edited = edit(model, encoder, list(portraits.images), known)
    changed = sum(not reason for reason in edited.left)
    _LOG.info("edited %d of the %d faces of the portraits", changed, len(portraits.samples))
    return replace(portraits, images=torch.stack(edited.pictures))
