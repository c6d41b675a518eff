"""Train one of the world's face recognisers with an additive angular margin.

python -m portraitlab.pretraining.recognisers --which judge --minutes 35
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from portraitlab.faces.alignment import align
from portraitlab.pretraining.loop import budget_arguments, take_which, train
from portraitlab.pretraining.photos import TrainingPhotos, flawed, load_photos
from portraitlab.pretraining.ship import begin, ship
from portraitlab.world.identity import FAMILY_SIZE
from portraitlab.world.models.recognisers import (
    ARCHITECTURES,
    CROP_SIZE,
    EMBEDDING,
    WorldRecogniser,
)
from portraitlab.world.splits import LOOK_ALIKES

BATCH = 96
MARGIN, SCALE = 0.25, 24.0
MARGIN_STEPS = 1500
"""Steps over which the margin grows from zero; a small net does not learn with all at once."""


class _Classifier(nn.Module):
    """A recogniser and one centre for each training identity; only the recogniser is shipped."""

    seen: Tensor

    def __init__(self, recogniser: WorldRecogniser, identities: int) -> None:
        super().__init__()
        self.recogniser = recogniser
        # Only directions matter: vectors start short because a step turns a long one too little.
        self.centres = nn.Parameter(0.03 * torch.randn(identities, EMBEDDING))
        self.register_buffer("seen", torch.zeros(()))

    def margin_loss(self, crops: Tensor, identities: Tensor) -> Tensor:
        """Compute ArcFace's loss (Deng et al., CVPR 2019, eq. 3)."""
        cosine = self.recogniser(crops).float() @ functional.normalize(self.centres, dim=-1).T
        angle = cosine.clamp(-1 + 1e-5, 1 - 1e-5).acos()
        own = functional.one_hot(identities, len(self.centres)).bool()
        margin = MARGIN * (self.seen / MARGIN_STEPS).clamp(max=1)
        self.seen += 1
        logits = SCALE * torch.where(own, (angle + margin).cos(), cosine)
        return functional.cross_entropy(logits, identities)


def augmented_crops(photos: TrainingPhotos, index: Tensor, generator: torch.Generator) -> Tensor:
    """Draw crops [B, 3, 48, 48] as in use: matted or not, slightly misaligned, slightly soft."""
    count = len(index)
    images, masks = photos.pixels(index), photos.masks(index)
    matted = (torch.rand(count, 1, 1, 1, generator=generator) < 0.5).float()
    images = images * (1 - matted + matted * masks)
    keypoints = torch.from_numpy(photos.keypoints[index.numpy()])
    shift = 0.012 * torch.randn(count, 1, 2, generator=generator)
    jitter = 0.008 * torch.randn(count, 5, 2, generator=generator)
    crops = align(images, keypoints + shift + jitter, CROP_SIZE)
    small = functional.interpolate(crops, scale_factor=0.5, mode="area")
    soft = functional.interpolate(small, size=CROP_SIZE, mode="bilinear")
    blend = 0.8 * torch.rand(count, 1, 1, 1, generator=generator).square()
    crops = torch.lerp(crops, soft, blend) + 0.03 * torch.randn(crops.shape, generator=generator)
    gain = 1 + 0.1 * torch.randn(count, 1, 1, 1, generator=generator)
    return (crops * gain).clamp(-1, 1)


def main() -> None:
    """Run the command."""
    which = take_which(tuple(ARCHITECTURES))
    architecture, config = ARCHITECTURES[which]
    budget = budget_arguments(__doc__.splitlines()[0], minutes=35)
    # Load photos to train and to measure on.
    photos = load_photos(which, 5000, 8, budget.cache, budget.workers)
    check = load_photos("foundation_check", 300, 8, budget.cache, budget.workers)
    families = f"foundation_check{LOOK_ALIKES}"
    look_alikes = load_photos(families, 300, 8, budget.cache, budget.workers)
    torch.manual_seed(budget.seed)
    recogniser = begin(which, architecture(config), budget)

    # Classify augmented crops with the margin.
    def loss(model: _Classifier, generator: torch.Generator) -> dict[str, Tensor]:
        index = torch.randint(len(photos), (BATCH,), generator=generator)
        crops = augmented_crops(photos, index, generator).to(budget.device)
        return {
            "margin": model.margin_loss(
                crops, torch.from_numpy(photos.identities[index.numpy()]).to(budget.device)
            )
        }

    # Measure on held-out people, look-alikes and flawed photos.
    poor = torch.from_numpy(flawed("foundation_check", 300, 8))

    def measure(model: _Classifier) -> dict[str, float]:
        alike = verification(model.recogniser, look_alikes, within_families=True)
        return (
            verification(model.recogniser, check)
            | {f"{name}{LOOK_ALIKES}": figure for name, figure in alike.items()}
            | {"cosine_same_flawed": cosine_of_flawed(model.recogniser, check, poor)}
        )

    def watch(model: _Classifier) -> str:
        return str(measure(model))

    # Train, measure and ship.
    trained = train(
        which, _Classifier(recogniser, 5000), loss, budget, 2e-3, weight_decay=0.05, watch=watch
    )
    model = trained.model
    ship(
        which,
        model.recogniser,
        config,
        trained.record | measure(model),
        script=f"recognisers --which {which}",
    )


@torch.no_grad()
def _cosines(model: WorldRecogniser, photos: TrainingPhotos) -> Tensor:
    """Compute cosines [P, P] between all photos."""
    model.cpu().eval()
    index = torch.arange(len(photos))
    crops = align(photos.pixels(index), torch.from_numpy(photos.keypoints), CROP_SIZE)
    embeddings = torch.cat([model(part) for part in crops.split(200)])
    return embeddings @ embeddings.T


def cosine_of_flawed(model: WorldRecogniser, photos: TrainingPhotos, poor: Tensor) -> float:
    """Compute the mean cosine of photos with (poor [P]) and without a flaw, of the same person."""
    identity = torch.from_numpy(photos.identities)
    pairs = (identity[:, None] == identity) & poor[:, None] & ~poor
    return round(float(_cosines(model, photos)[pairs].mean()), 3)


def verification(
    model: WorldRecogniser, photos: TrainingPhotos, within_families: bool = False
) -> dict[str, float]:
    """Measure AUC, accepted share at 1 % false accepts, and mean cosines on held-out identities.

    within_families: True compares only people of one family, for photos of a look-alike split.
    """
    cosine = _cosines(model, photos)
    identity = torch.from_numpy(photos.identities)
    same = identity[:, None] == identity
    group = identity // FAMILY_SIZE if within_families else torch.zeros_like(identity)
    compared = (group[:, None] == group).triu(1)
    same_scores = cosine[same & compared]
    other_scores = cosine[~same & compared]
    threshold = other_scores.sort().values[int(0.99 * len(other_scores))]
    ranks = torch.searchsorted(other_scores.sort().values, same_scores).double() / len(other_scores)
    return {
        "auc": round(float(ranks.mean()), 4),
        "tar_at_far_1_percent": round(float((same_scores > threshold).float().mean()), 3),
        "cosine_same": round(float(same_scores.mean()), 3),
        "cosine_other": round(float(other_scores.mean()), 3),
    }


if __name__ == "__main__":
    main()
