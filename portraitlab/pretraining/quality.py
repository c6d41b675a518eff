"""Train the world's face quality model.

python -m portraitlab.pretraining.quality --minutes 8

As in SDD-FIQA (Ou et al., CVPR 2021) quality is not labelled but measured by a recogniser: the
target of a photo is the cosine between its embedding and that of the same moment rendered without a
flaw. SDD-FIQA compares a photo with others of the person, whose hair, light and expression differ
too; in this world that separates blur from sharpness hardly better than chance.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from portraitlab.faces.alignment import align
from portraitlab.pretraining.loop import budget_arguments, train
from portraitlab.pretraining.photos import RENDERER_VERSION, TrainingPhotos, load_photos
from portraitlab.pretraining.ship import begin, ship
from portraitlab.world.identity import make_identity
from portraitlab.world.models.quality import CONFIG, FaceQualityNet
from portraitlab.world.models.recognisers import CROP_SIZE
from portraitlab.world.pool import rendering_pool
from portraitlab.world.pretrained import load_recogniser, load_regressor
from portraitlab.world.render import render_scene
from portraitlab.world.settings import PhotoSettings, make_settings
from portraitlab.world.splits import IDENTITIES

BATCH = 64
JITTER = 0.01
"""Standard deviation of noise on the true keypoints, about the regressor's error."""
PHOTOS = ("foundation", 7000, 6)
CHECK = ("foundation_check", 300, 8)
KINDS = {
    "blurred": ("blurred",),
    "covered": ("mask", "scarf", "hand"),
    "dim": ("dim light",),
    "harsh": ("harsh light",),
    "sunglasses": ("sunglasses",),
}
"""Kinds of flaws, for the figures alone; the training does not distinguish them."""


def taken_again(settings: PhotoSettings) -> PhotoSettings:
    """Remove the flaws of settings: sharp, in soft light, with nothing before the face."""
    return replace(
        settings,
        blur=0.0,
        light="soft" if settings.light in ("harsh", "dim") else settings.light,
        cover="none",
        glasses="none" if settings.glasses == "sunglasses" else settings.glasses,
    )


def load_targets(
    photos: TrainingPhotos, split: str, people: int, each: int, cache: Path, workers: int
) -> Tensor:
    """Load the cosines [P] of photos with their flawless versions, in the order of load_photos.

    A photo without a flaw has 1. For the others the flawless version is rendered, once.
    """
    path = cache / f"foundation-{RENDERER_VERSION}" / f"{split}-{people}x{each}.quality.npy"
    if not path.exists():
        shots = [(seed, photo) for seed in IDENTITIES[split][:people] for photo in range(each)]
        flawed = [row for row, shot in enumerate(shots) if make_settings(*shot).flaws]
        with rendering_pool(workers) as pool:
            retaken = pool.map(_retake, [shots[row] for row in flawed], chunksize=16)
            done = tqdm(retaken, "retaking", len(flawed), unit="photo", mininterval=5)
            again = replace(photos, images=np.stack(list(done)), keypoints=photos.keypoints[flawed])
        targets = torch.ones(len(shots))
        own = _embeddings(photos, torch.tensor(flawed))
        targets[flawed] = (own * _embeddings(again, torch.arange(len(flawed)))).sum(-1)
        part = path.with_name(f"{path.name}.part-{os.getpid()}")
        with part.open("wb") as file:
            np.save(file, targets.numpy())
        part.rename(path)
    return torch.from_numpy(np.load(path))


def _retake(shot: tuple[int, int]) -> NDArray[np.uint8]:
    return render_scene([(make_identity(shot[0]), taken_again(make_settings(*shot)))]).image


@torch.no_grad()
def _embeddings(photos: TrainingPhotos, index: Tensor) -> Tensor:
    recogniser = load_recogniser("recogniser")
    points = torch.from_numpy(photos.keypoints)
    parts = index.split(200)
    return torch.cat([recogniser(align(photos.pixels(i), points[i], CROP_SIZE)) for i in parts])


def main() -> None:
    """Run the command."""
    budget = budget_arguments(__doc__.splitlines()[0], minutes=8)
    photos = load_photos(*PHOTOS, budget.cache, budget.workers)
    targets = load_targets(photos, *PHOTOS, budget.cache, budget.workers)
    check = load_photos(*CHECK, budget.cache, budget.workers)
    torch.manual_seed(budget.seed)

    def loss(model: FaceQualityNet, generator: torch.Generator) -> dict[str, Tensor]:
        index = torch.randint(len(photos), (BATCH,), generator=generator)
        points = torch.from_numpy(photos.keypoints[index.numpy()])
        points = points + JITTER * torch.randn(points.shape, generator=generator)
        crops = align(photos.pixels(index), points, model.crop_size)
        scores = model(crops.to(budget.device)).float()
        return {"cosine": functional.mse_loss(scores, targets[index].to(budget.device))}

    def measure(model: FaceQualityNet) -> dict[str, float]:
        return separation(scores_of(model, check), *CHECK)

    def watch(model: FaceQualityNet) -> str:
        return str(measure(model))

    untrained = begin("quality", FaceQualityNet(), budget)
    trained = train("quality", untrained, loss, budget, 2e-3, average=0.998, watch=watch)
    record = trained.record | measure(trained.model)
    ship("quality", trained.model, CONFIG, record, script="quality")


@torch.no_grad()
def scores_of(model: FaceQualityNet, photos: TrainingPhotos) -> Tensor:
    """Score photos [P] at the keypoints of the regressor, as the model is used."""
    model.cpu().eval()
    regressor = load_regressor()
    parts = [photos.pixels(index) for index in torch.arange(len(photos)).split(200)]
    found = [align(images, regressor(images).keypoints, model.crop_size) for images in parts]
    return torch.cat([model(crops) for crops in found])


def separation(scores: Tensor, split: str, people: int, each: int) -> dict[str, float]:
    """Compute the AUC of flawless photos over those with each kind of flaw, from scores [P].

    Ties count half. The mean scores of photos without and with a flaw are returned too.
    """
    seeds = IDENTITIES[split][:people]
    flaws = [make_settings(seed, photo).flaws for seed in seeds for photo in range(each)]
    sound = torch.tensor([not found for found in flaws])
    clean = scores[sound].sort().values
    figures = {"score_sound": float(clean.mean()), "score_flawed": float(scores[~sound].mean())}
    for name, kinds in KINDS.items():
        poor = scores[torch.tensor([bool(set(kinds) & set(found)) for found in flaws])]
        below, through = (torch.searchsorted(clean, poor, right=right) for right in (False, True))
        figures[f"auc_{name}"] = 1 - float((below + through).double().mean()) / (2 * len(clean))
    return {name: round(value, 3) for name, value in figures.items()}


if __name__ == "__main__":
    main()
