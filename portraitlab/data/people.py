"""Encode portraits of people as references, read them from folders, and match faces to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

from portraitlab.data.features import describe_faces, geometry_of
from portraitlab.data.photo import UnusablePhoto, read_photo
from portraitlab.data.photos import to_tensor
from portraitlab.data.prepare.listing import identity_folders, list_identity
from portraitlab.data.usable import UsablePortrait, usable_portrait
from portraitlab.diffusion.backbone import Backbone
from portraitlab.faces.encoder.face_encoder import FaceEncoder
from portraitlab.faces.matting.base import Matting
from portraitlab.types import FaceFeatures, FaceGeometry, Pictures


@dataclass(frozen=True)
class People:
    """P people as references: names, features [P, N], and the geometry [P] of one photo each.

    pictures [P]: that photo as the profile, for a model that wants it; see KnownFaces.
    """

    names: tuple[str, ...]
    features: FaceFeatures
    shape: FaceGeometry
    pictures: Pictures | None = None

    @property
    def embeddings(self) -> Tensor:
        """Mean of each person's unit embeddings, of unit length: [P, d2]."""
        return functional.normalize(self.features.global_.sum(1), dim=-1)


def read_people(
    root: Path,
    encoder: FaceEncoder,
    matting: Matting,
    backbone: Backbone,
    most: int,
    latents: bool = False,
    pictures: bool = False,
    minimum_side: int = 32,
) -> People:
    """Read people from `root/<person>/<photo>`, or one person from `root/<photo>`.

    most: the maximum number of photos of a person, the first by name among the usable. latents:
    encode the photos for a net that reads them. pictures: keep the first one as the profile. Photos
    without exactly one face are left out.
    Raises ValueError where the folder is missing, and for a person without a usable photo.
    """
    if not root.is_dir():
        raise ValueError(
            f"faces={root} is not a folder; give photos of one person, or a folder each"
        )
    folders = [root / name for name in identity_folders(root)] or [root]
    portraits = [_portraits(folder, encoder, matting, most, minimum_side) for folder in folders]
    features: list[FaceFeatures] = []
    shapes: list[FaceGeometry] = []
    for own in portraits:
        references, geometry = describe_references(own, encoder, backbone)
        if latents:
            with backbone.computing():
                references = replace(references, latents=encode_portraits(own, backbone)[None])
        features.append(references)
        shapes.append(geometry[[0]])
    profiles = [own[0] for own in portraits]
    with backbone.computing():
        shown = profile_pictures(profiles, profiles, backbone) if pictures else None
    width = max(references.mask.shape[1] for references in features)
    return People(
        names=tuple(folder.name for folder in folders),
        features=FaceFeatures.cat([references.padded(width) for references in features]),
        shape=FaceGeometry.cat(shapes),
        pictures=shown,
    )


def match(faces: Tensor, people: Tensor) -> list[int | None]:
    """Match the faces of one picture to different people by their unit embeddings.

    faces [K, d2], people [P, d2]. The sum of cosines is maximal (Hungarian method). None for faces
    beyond the number of people.
    """
    found: list[int | None] = [None] * len(faces)
    for face, person in zip(*linear_sum_assignment(faces @ people.T, maximize=True), strict=True):
        found[int(face)] = int(person)
    return found


def _portraits(
    folder: Path, encoder: FaceEncoder, matting: Matting, most: int, minimum_side: int
) -> list[UsablePortrait]:
    """Cut the portraits of a person's photos. Raises ValueError where no photo can be used."""
    portraits: list[UsablePortrait] = []
    reasons: list[str] = []
    for path in list_identity(folder.parent, folder.name).photos:
        if len(portraits) == most:
            break
        try:
            portraits.append(usable_portrait(read_photo(path), encoder, matting, minimum_side))
        except UnusablePhoto as error:
            reasons.append(f"{path.name} {error}")
    if not portraits:
        why = f" ({'; '.join(reasons[:3])})" if reasons else ""
        raise ValueError(
            f"faces: {folder} has no photo with one face{why}; add photos of the person"
        )
    return portraits


@torch.no_grad()
def describe_references(
    portraits: Sequence[UsablePortrait], encoder: FaceEncoder, backbone: Backbone
) -> tuple[FaceFeatures, FaceGeometry]:
    """Encode the faces of portraits as references [1, N] with their geometry [N], on the CPU."""
    size, device = backbone.image_size, backbone.latent_scale.device
    views = to_tensor(np.stack([each.view for each in portraits])).to(device)
    masks = torch.from_numpy(np.stack([each.resized_mask(size) for each in portraits])).to(device)
    fitted = encoder.fit(views, FaceGeometry.cat([each.face for each in portraits]))
    described = describe_faces(encoder, views, masks, fitted)
    faces = {name: value.cpu() for name, value in described.items()}
    mask = torch.ones(1, len(portraits), dtype=torch.bool)
    features = FaceFeatures(faces["local"].float()[None], faces["global"][None], mask)
    return features, geometry_of(faces)[:]


@torch.no_grad()
def encode_portraits(portraits: Sequence[UsablePortrait], backbone: Backbone) -> Tensor:
    """Encode portraits to latents [N, c, h, w] on the CPU."""
    pixels = _pixels(portraits, backbone).to(backbone.latent_scale.device)
    return backbone.encode(pixels).float().cpu()


def profile_pictures(
    styles: Sequence[UsablePortrait],
    profiles: Sequence[UsablePortrait],
    backbone: Backbone,
    seed: int = 0,
) -> Pictures:
    """Encode the styles and profiles [B] that are laid side by side in drawing, on the CPU."""
    latents = encode_portraits(profiles, backbone)
    return Pictures(
        style=_pixels(styles, backbone),
        profile=_pixels(profiles, backbone),
        latents=latents,
        person=torch.zeros_like(latents[:, :1]),  # that only losses read
        prompted=torch.ones(len(profiles), dtype=torch.bool),
        seed=torch.full((len(profiles),), seed),
    )


def _pixels(portraits: Sequence[UsablePortrait], backbone: Backbone) -> Tensor:
    return to_tensor(np.stack([each.resized(backbone.image_size) for each in portraits]))
