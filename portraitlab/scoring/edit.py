"""Edit drawn portraits before they are judged."""

from __future__ import annotations

import logging
from dataclasses import replace

import torch

from portraitlab.faces.encoder.face_encoder import FaceEncoder
from portraitlab.method.edit.base import Edit, KnownFaces
from portraitlab.method.model import PortraitModel
from portraitlab.scoring.draw import Portraits
from portraitlab.types import FaceGeometry

_LOG = logging.getLogger(__name__)


@torch.no_grad()
def edit_portraits(
    edit: Edit, model: PortraitModel, encoder: FaceEncoder, portraits: Portraits
) -> Portraits:
    """Edit the best face of each portrait, which is of its sample's person.

    encoder: on the model's device. A portrait without a face, or with a face that the edit leaves
    as it is, is unchanged; the log has their numbers.
    """
    if not edit.changes:
        return portraits
    found = [edit.find(image) for image in portraits.images]
    rows = torch.tensor([row for row, faces in enumerate(found) if len(faces)], dtype=torch.long)
    if not len(rows):
        _LOG.info("edited no portrait: none shows a face")
        return portraits
    batch = portraits.batch[rows]
    best = FaceGeometry.cat([found[int(row)][:1] for row in rows])
    faces = KnownFaces(rows, best.keypoints, batch.text, batch.references, batch.shape_geometry)
    edited = edit(model, encoder, list(portraits.images), faces)
    mended = sum(not reason for reason in edited.left)
    _LOG.info("edited the faces of %d portraits of %d", mended, len(found))
    return replace(portraits, images=torch.stack(edited.pictures))
