"""Gather the sample that a pipeline draws from photos of a person."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor

from portraitlab.data.features import describe_faces, geometry_of
from portraitlab.data.photo_set import face_quality
from portraitlab.data.photos import to_tensor
from portraitlab.data.usable import UsablePortrait
from portraitlab.diffusion.backbone import Backbone
from portraitlab.faces.encoder.face_encoder import FaceEncoder
from portraitlab.method.model import PortraitModel
from portraitlab.method.select.selection import TARGET, Selection
from portraitlab.types import Batch, Candidates, FaceFeatures, FaceGeometry, Pictures

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
    backbone, device = model.backbone, model.backbone.latent_scale.device
    shown = [*references, target]
    size = backbone.image_size
    views = to_tensor(np.stack([each.view for each in shown]))
    masks = torch.from_numpy(np.stack([each.resized_mask(size) for each in shown]))
    seen, found = views.to(device), FaceGeometry.cat([each.face for each in shown])
    fitted = encoder.fit(seen, found)
    faces = describe_faces(encoder, seen, masks.to(device), fitted)
    faces = {name: value.cpu() for name, value in faces.items()}
    geometry = geometry_of(faces)
    last = len(references)  # the target's row
    _warn_of_two_people(faces["global"][:last])

    # Choose the reference that gives the shape.
    scorer = select.quality
    points = geometry.keypoints[:last]
    quality = None if scorer is None else face_quality(scorer, views[:last], points)[None]
    mask = torch.ones(1, last, dtype=torch.bool)
    candidates = Candidates(
        references=geometry[None, :last],
        mask=mask,
        target=geometry[[last]],
        quality=quality,
        identities=["person"],
        photos=[[f"reference {number}" for number in range(1, last + 1)]],
        target_photos=["target"],
    )
    chosen = select.choose(candidates, torch.Generator().manual_seed(seed))
    shape = last if int(chosen) == TARGET else int(chosen)

    # Encode the prompt, and the references where the net reads their latents.
    latents = None
    pictures = None
    with computing:
        text = backbone.encode_text([prompt]).to("cpu")
        if model.net.latents:
            images = to_tensor(np.stack([each.resized(size) for each in references]))
            latents = backbone.encode(images.to(backbone.latent_scale.device)).cpu()[None]
        if "pictures" in model.wants:
            pictures = _pictures(backbone, target, shown[shape], seed)
    cells = (1, backbone.latent_channels, backbone.latent_size, backbone.latent_size)
    return Batch(
        latents=torch.zeros(cells),
        pictures=pictures,
        text=text,
        references=FaceFeatures(
            local_=faces["local"][None, :last].float(),
            global_=faces["global"][None, :last],
            mask=mask,
            latents=latents,
        ),
        shape_geometry=geometry[[shape]],
        target_geometry=geometry[[last]],
        # Fields that only losses read.
        identity=torch.zeros(1, 0),
        person=torch.zeros(1, 1, *cells[2:]),
        target_index=torch.zeros(1, dtype=torch.long),
    )


def _pictures(
    backbone: Backbone, style: UsablePortrait, profile: UsablePortrait, seed: int
) -> Pictures:
    """Encode the pictures [1] that are laid side by side, on the CPU."""
    size = backbone.image_size
    shown, own = (to_tensor(np.stack([each.resized(size)])) for each in (style, profile))
    latents = backbone.encode(own.to(backbone.latent_scale.device)).float().cpu()
    return Pictures(
        style=shown,
        profile=own,
        latents=latents,
        person=torch.zeros_like(latents[:, :1]),  # that only losses read
        prompted=torch.ones(1, dtype=torch.bool),
        seed=torch.tensor([seed]),
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
