"""Fit the estimator of the light's direction.

python -m portraitlab.pretraining.light

It is ridge regression on photos without a flaw of the judge's people, with the shading and the pose
that the judging regressor finds. The fit is exact, so that --minutes changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from portraitlab.data.photos import to_tensor
from portraitlab.pretraining.loop import budget_arguments
from portraitlab.pretraining.ship import ship
from portraitlab.scoring.shading import shading
from portraitlab.types import TensorRecord
from portraitlab.world.models.light import CONFIG, LightEstimator
from portraitlab.world.photo import Light
from portraitlab.world.pool import rendering_pool
from portraitlab.world.pretrained import load_regressor
from portraitlab.world.render import render_photo
from portraitlab.world.settings import make_settings
from portraitlab.world.splits import IDENTITIES

PHOTOS = ("judge", 2000, 4)
CHECK = ("foundation_check", 300, 4)
PENALTY = 1e-4
"""Of the squared weights, beside a mean squared error."""


@dataclass(frozen=True)
class LitFaces(TensorRecord):
    """P faces, as the judge sees them, with the true light.

    shading [P, K, K] and pose [P, 3]: inputs of the estimator. direction [P, 3]: unit vector to the
    light. share [P]: of the directional light in the sum of directional and ambient light.
    """

    shading: Tensor
    pose: Tensor
    direction: Tensor
    share: Tensor


def lit_faces(split: str, people: int, each: int, workers: int) -> LitFaces:
    """Render the photos without a flaw among the first `each` of each person, and look at them."""
    pairs = product(IDENTITIES[split][:people], range(each))
    shots = [shot for shot in pairs if not make_settings(*shot).flaws]
    with rendering_pool(workers) as pool:
        rendered = pool.map(_render, shots, chunksize=16)
        done = list(tqdm(rendered, f"rendering {split}", len(shots), mininterval=5))
    pixels, lights = zip(*done, strict=True)
    regressor = load_regressor("judge_regressor")
    with torch.no_grad():
        seen = [
            (shading(part, found.keypoints), found.coefficients.pose[:, :3])
            for part in to_tensor(np.stack(pixels)).split(200)
            for found in [regressor(part)]
        ]
    cells, poses = zip(*seen, strict=True)
    return LitFaces(
        shading=torch.cat(cells),
        pose=torch.cat(poses),
        direction=torch.from_numpy(np.stack([light.direction for light in lights])),
        share=torch.tensor([_share(light) for light in lights]),
    )


def _render(shot: tuple[int, int]) -> tuple[NDArray[np.uint8], Light]:
    photo = render_photo(*shot)
    return photo.image, photo.light


def _share(light: Light) -> float:
    directional, ambient = float(light.directional.sum()), float(light.ambient.sum())
    return directional / (directional + ambient)


def fitted(faces: LitFaces) -> LightEstimator:
    """Fit the vectors to the light, each as long as the directional light's share."""
    model = LightEstimator(**CONFIG)
    inputs = model.features(faces.shading, faces.pose).double()
    targets = (faces.direction * faces.share[:, None]).double()
    centred = inputs - inputs.mean(dim=0)
    covariance = centred.mT @ centred / len(inputs)
    penalty = PENALTY * torch.eye(len(covariance), dtype=torch.double)
    weights = torch.linalg.solve(covariance + penalty, centred.mT @ targets / len(inputs))
    with torch.no_grad():
        model.linear.weight.copy_(weights.mT)
        model.linear.bias.copy_(targets.mean(dim=0) - inputs.mean(dim=0) @ weights)
    return model.requires_grad_(False)


def errors(model: LightEstimator, faces: LitFaces) -> dict[str, float]:
    """Measure errors in degrees on other people, beside that of always the mean direction."""
    found = model(faces.shading, faces.pose)
    mean = faces.direction.mean(dim=0, keepdim=True)
    across, up = _azimuth(found) - _azimuth(faces.direction), found[:, 1].asin()
    figures = {
        "error_degrees": _angle(found, faces.direction),
        "error_across_degrees": across.abs(),
        "error_up_degrees": (up - faces.direction[:, 1].asin()).abs(),
        "error_of_mean_degrees": _angle(mean / mean.norm(), faces.direction),
    }
    return {name: round(float(value.rad2deg().mean()), 2) for name, value in figures.items()}


def _angle(one: Tensor, other: Tensor) -> Tensor:
    return (one * other).sum(dim=1).clamp(-1, 1).acos()


def _azimuth(direction: Tensor) -> Tensor:
    return torch.atan2(direction[:, 0], direction[:, 2])


def main() -> None:
    """Run the command."""
    budget = budget_arguments(__doc__.splitlines()[0], minutes=1)
    faces = lit_faces(*PHOTOS, budget.workers)
    model = fitted(faces)
    figures = errors(model, lit_faces(*CHECK, budget.workers))
    record = {"steps": 1, "minutes": budget.minutes, "device": "cpu", "seed": budget.seed}
    ship("light", model, CONFIG, record | {"photos": len(faces)} | figures, script="light")


if __name__ == "__main__":
    main()
