"""Train the world's autoencoder.

python -m portraitlab.world.train.autoencoder --minutes 15
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from portraitlab.world.models.autoencoder import CONFIG, UnshuffledAutoencoder
from portraitlab.world.train.loop import Budget, budget_arguments, train
from portraitlab.world.train.photos import TrainingPhotos, load_photos
from portraitlab.world.train.ship import ship

BATCH = 32
PERSON_WEIGHT = 3.0
"""How much more an error on the person counts than one on the background."""
KL_WEIGHT = 2e-4
"""Per latent number; enough that the latent is about unit size and easy to diffuse."""


def _edges(images: Tensor) -> Tensor:
    return torch.cat([images.diff(dim=-1).flatten(2), images.diff(dim=-2).flatten(2)], -1)


def main() -> None:
    """Run the command."""
    budget = budget_arguments(__doc__.splitlines()[0], minutes=15)
    photos = load_photos("foundation", 7000, 6, budget.cache, budget.workers)
    check = load_photos("foundation_check", 300, 8, budget.cache, budget.workers)
    torch.manual_seed(budget.seed)

    def loss(model: UnshuffledAutoencoder, generator: torch.Generator) -> dict[str, Tensor]:
        index = torch.randint(len(photos), (BATCH,), generator=generator)
        images = photos.pixels(index).to(budget.device)
        weight = 1 + (PERSON_WEIGHT - 1) * photos.masks(index).to(budget.device)
        posterior = model.encode(images).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator).to(budget.device)
        decoded = model.decode(posterior.mean + posterior.std * noise).sample.float()
        error = (decoded - images).abs() + 2 * (decoded - images).square()
        return {
            "pixels": (weight * error).mean(),
            "edges": functional.l1_loss(_edges(decoded), _edges(images)),
            "kl": KL_WEIGHT * posterior.kl().float().mean() / posterior.mean[0].numel() * 10,
        }

    def watch(model: UnshuffledAutoencoder) -> str:
        return f"psnr {psnr(model, check, budget):.2f} dB"

    trained = train(
        "autoencoder", UnshuffledAutoencoder(), loss, budget, 2e-3, average=0.998, watch=watch
    )
    model = trained.model
    ship(
        "autoencoder",
        model,
        CONFIG,
        trained.record | {"psnr_db": round(psnr(model, check, budget), 2)},
        script="autoencoder",
    )


@torch.no_grad()
def psnr(
    model: UnshuffledAutoencoder, photos: TrainingPhotos, budget: Budget, count: int = 256
) -> float:
    """Mean peak signal-to-noise ratio of round trips, in decibels."""
    images = photos.pixels(torch.arange(0, len(photos), len(photos) // count)[:count]).to(
        budget.device
    )
    model.to(budget.device)
    decoded = model.decode(model.encode(images).latent_dist.mode()).sample.clamp(-1, 1)
    error = ((decoded - images) / 2).square().mean(dim=(1, 2, 3))
    return float((-10 * error.log10()).mean())


if __name__ == "__main__":
    main()
