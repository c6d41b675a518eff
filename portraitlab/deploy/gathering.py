"""Gather the sample that a pipeline draws from photos of a person."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from portraitlab.data.people import describe_references, encode_portraits, profile_pictures
from portraitlab.data.photo_set import face_quality
from portraitlab.data.photos import to_tensor
from portraitlab.data.usable import UsablePortrait
from portraitlab.faces.encoder.face_encoder import FaceEncoder
from portraitlab.method.model import PortraitModel
from portraitlab.method.select.selection import TARGET, Selection
from portraitlab.types import Batch, Candidates

_log = logging.getLogger(__name__)

_ALIKE = 0.1
"""Cosine of two photos' embeddings below which they hardly show the same person.

Photos of different people have a cosine of about 0; SFace's authors require 0.36 for the same
person.
"""


def gather(
    model: PortraitModel,
    encoder: FaceEncoder,
    select: Selection,
    references: Sequence[UsablePortrait],
    target: UsablePortrait,
    prompt: str,
    seed: int,
    computing: AbstractContextManager[None],
) -> Batch:
    """Gather one sample [1] as a PhotoSet does, on the CPU.

    model and encoder must be on the same device. seed: seed of the choice of the reference that
    gives the shape. computing: moves the model to the device that it computes on. Logs a warning
    for references that hardly show the same person.
    """
    # Describe the faces of all photos; the target is the last row.
    backbone, last = model.backbone, len(references)
    described, geometry = describe_references([*references, target], encoder, backbone)
    features = described.changed(lambda tensor: tensor[:, :last])
    _warn_of_two_people(features.global_[0])

    # Choose the reference that gives the shape.
    quality = None
    if select.quality is not None:
        views = to_tensor(np.stack([each.view for each in references]))
        quality = face_quality(select.quality, views, geometry.keypoints[:last])[None]
    candidates = Candidates(
        references=geometry[None, :last],
        mask=features.mask,
        target=geometry[[last]],
        quality=quality,
        identities=["person"],
        photos=[[f"reference {number}" for number in range(1, last + 1)]],
        target_photos=["target"],
    )
    chosen = select.choose(candidates, torch.Generator().manual_seed(seed))
    shape = last if int(chosen) == TARGET else int(chosen)

    # Encode the prompt, and the photos that the net reads.
    pictures = None
    with computing:
        text = backbone.encode_text([prompt]).to("cpu")
        if model.net.latents:
            features = replace(features, latents=encode_portraits(references, backbone)[None])
        if "pictures" in model.wants:
            profile = [*references, target][shape]
            pictures = profile_pictures([target], [profile], backbone, seed)
    return Batch.to_draw(
        (backbone.latent_channels, backbone.latent_size, backbone.latent_size),
        text,
        features,
        shape_geometry=geometry[[shape]],
        target_geometry=geometry[[last]],
        pictures=pictures,
    )


def _warn_of_two_people(embeddings: Tensor) -> None:
    """Log a warning if the two most different embeddings of [R, d2] are hardly of one person."""
    cosines = embeddings.float() @ embeddings.float().T
    lowest = float(cosines.min())
    if lowest < _ALIKE:
        one, other = sorted(divmod(int(cosines.argmin()), len(cosines)))
        _log.warning(
            "references %d and %d hardly look like one person (cosine %.2f of their embeddings, "
            "below %s); give photos of one", one + 1, other + 1, lowest, _ALIKE,
        )  # fmt: skip
