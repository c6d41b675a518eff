"""Measure how much of a person survives the autoencoder, by the size of the face.

python -m portraitlab.pretraining.round_trips
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import numpy as np
import torch
from torch import Tensor

from portraitlab.faces.alignment import align
from portraitlab.world.identity import make_identity
from portraitlab.world.models.autoencoder import UnshuffledAutoencoder
from portraitlab.world.photo import Photo
from portraitlab.world.pretrained import load_autoencoder, load_recogniser
from portraitlab.world.render import render_photo, render_scene
from portraitlab.world.settings import make_settings
from portraitlab.world.splits import IDENTITIES

FACES: tuple[tuple[float, int], ...] = ((0.425, 64), (0.30, 64), (0.22, 128), (0.10, 128))
"""Scales of the head, as fractions of the width, and picture sizes in pixels."""


def sound_photos(person: int) -> tuple[int, int]:
    """Return the first two photos of a person without a flaw."""
    sound = (photo for photo in count() if not make_settings(person, photo).flaws)
    return next(sound), next(sound)


def render_head(person: int, photo: int, scale: float, size: int) -> Photo:
    """Render a photo with a head of the given scale, centred in the upper part."""
    placed = replace(make_settings(person, photo), scale=scale, x=0.5, y=min(0.44, 1.6 * scale))
    return render_scene([(make_identity(person), placed)], size)


@torch.no_grad()
def face_round_trips(
    model: UnshuffledAutoencoder, device: str = "cpu", people: int = 300
) -> dict[str, float]:
    """Measure the judge's mean cosine to a portrait of the person, by the size of the face.

    Another photo of the person is compared as rendered (`real`) and after the autoencoder
    (`trip`). Photos have no flaws, and crops are at the true keypoints.
    """
    judge = load_recogniser("judge").to(device)
    model.to(device)
    seeds = IDENTITIES["foundation_check"][:people]

    def embedded(images: Tensor, keypoints: Tensor) -> Tensor:
        return judge(align(images, keypoints, judge.crop_size))

    portraits = [render_photo(seed, sound_photos(seed)[0]) for seed in seeds]
    own = embedded(*_tensors(portraits, device))
    figures = {}
    for scale, size in FACES:
        shots = [render_head(seed, sound_photos(seed)[1], scale, size) for seed in seeds]
        images, keypoints = _tensors(shots, device)
        parts = [model.decode(model.encode(p).latent_dist.mode()).sample for p in images.split(50)]
        trips = torch.cat(parts).clamp(-1, 1)
        for name, shown in (("real", images), ("trip", trips)):
            cosine = (embedded(shown, keypoints) * own).sum(-1).mean()
            figures[f"{name}_{scale * 1000:g}_at_{size}"] = round(float(cosine), 3)
    return figures


def _tensors(shots: list[Photo], device: str) -> tuple[Tensor, Tensor]:
    images = torch.from_numpy(np.stack([shot.image for shot in shots])).permute(0, 3, 1, 2)
    keypoints = torch.from_numpy(np.stack([shot.keypoints for shot in shots]))
    return (images.float() / 127.5 - 1).to(device), keypoints.to(device)


def main() -> None:
    """Print the measures of the package's autoencoder."""
    for name, value in face_round_trips(load_autoencoder()).items():
        print(f"{name} {value:.3f}")


if __name__ == "__main__":
    main()
