"""Read the people of a folder of photos as references, and match faces to them."""

from __future__ import annotations

from dataclasses import dataclass
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
    people = [_features(own, encoder, backbone, latents) for own in portraits]
    profiles = [own[0] for own in portraits]
    width = max(features.mask.shape[1] for features, _ in people)
    return People(
        names=tuple(folder.name for folder in folders),
        features=FaceFeatures.cat([features.padded(width) for features, _ in people]),
        shape=FaceGeometry.cat([shape for _, shape in people]),
        pictures=_pictures(profiles, backbone) if pictures else None,
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
def _features(
    portraits: list[UsablePortrait], encoder: FaceEncoder, backbone: Backbone, latents: bool
) -> tuple[FaceFeatures, FaceGeometry]:
    """Encode a person's portraits: features [1, N], and the geometry [1] of the first."""
    size, device = backbone.image_size, backbone.latent_scale.device
    views = to_tensor(np.stack([each.view for each in portraits])).to(device)
    masks = torch.from_numpy(np.stack([each.resized_mask(size) for each in portraits])).to(device)
    fitted = encoder.fit(views, FaceGeometry.cat([each.face for each in portraits]))
    described = describe_faces(encoder, views, masks, fitted)
    faces = {name: value.cpu() for name, value in described.items()}
    encoded = None
    if latents:
        images = to_tensor(np.stack([each.resized(size) for each in portraits]))
        with backbone.computing():
            encoded = backbone.encode(images.to(device)).float().cpu()[None]
    features = FaceFeatures(
        local_=faces["local"].float()[None],
        global_=faces["global"][None],
        mask=torch.ones(1, len(portraits), dtype=torch.bool),
        latents=encoded,
    )
    return features, geometry_of(faces)[[0]]


@torch.no_grad()
def _pictures(profiles: list[UsablePortrait], backbone: Backbone) -> Pictures:
    """Encode profiles [P] as pictures on the CPU, whose style is the profiles themselves."""
    pixels = to_tensor(np.stack([each.resized(backbone.image_size) for each in profiles]))
    with backbone.computing():
        latents = backbone.encode(pixels.to(backbone.latent_scale.device)).float().cpu()
    return Pictures(
        style=pixels,
        profile=pixels,
        latents=latents,
        person=torch.zeros_like(latents[:, :1]),  # that only losses read
        prompted=torch.ones(len(profiles), dtype=torch.bool),
        seed=torch.zeros(len(profiles), dtype=torch.long),
    )
