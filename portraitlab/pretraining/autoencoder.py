"""Train the world's autoencoder.

python -m portraitlab.pretraining.autoencoder --minutes 67
"""

from __future__ import annotations

import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor
from torch.nn import functional

from portraitlab.faces.alignment import align
from portraitlab.pretraining.loop import Budget, budget_arguments, train
from portraitlab.pretraining.photos import TrainingPhotos, load_photos
from portraitlab.pretraining.ship import begin, ship
from portraitlab.world.models.autoencoder import CONFIG, UnshuffledAutoencoder
from portraitlab.world.models.recognisers import WorldRecogniser
from portraitlab.world.pretrained import load_recogniser

BATCH = 32
PERSON_WEIGHT = 3.0
"""Additional weight of errors on the person over errors on the background."""
KL_WEIGHT = 2e-4
"""Weight per latent value, large enough for latents of about unit scale, easy to diffuse."""
FACE_WEIGHT, FACES = 1.0, 16
"""Weight of the perceptual loss, and the number of images of a batch that it is computed on."""
MOST_NOISE = 1.0
"""Largest noise of every other image's latents, in standard deviations of the latents."""


def edges(images: Tensor) -> Tensor:
    """Return differences [B, 3, E] between all neighbouring pixels of images [B, 3, H, W]."""
    return torch.cat([images.diff(dim=-1).flatten(2), images.diff(dim=-2).flatten(2)], -1)


def spread(latents: Tensor) -> Tensor:
    """Compute the standard deviation of each channel [1, 4, 1, 1] over a batch.

    The gradient is kept, so that the encoder cannot drown the noise by scaling a channel.
    """
    return latents.std((0, 2, 3), keepdim=True)


def with_noise(posterior: DiagonalGaussianDistribution, generator: torch.Generator) -> Tensor:
    """Draw latents [B, c, h, w] from the posterior, and add noise to every other one."""
    mean = posterior.mean
    noise = torch.randn(mean.shape, generator=generator).to(mean.device)
    level = MOST_NOISE * torch.rand(len(mean), 1, 1, 1, generator=generator).to(mean.device)
    noised = (torch.arange(len(mean)) % 2 == 1).view(-1, 1, 1, 1).to(mean.device)
    return mean + torch.where(noised, level * spread(mean), posterior.std) * noise


def main() -> None:
    """Run the command."""
    budget = budget_arguments(__doc__.splitlines()[0], minutes=67)
    photos = load_photos("foundation", 7000, 6, budget.cache, budget.workers)
    check = load_photos("foundation_check", 300, 8, budget.cache, budget.workers)
    torch.manual_seed(budget.seed)
    recogniser = load_recogniser("recogniser").to(budget.device)

    # Sum pixel, perceptual, edge and KL losses.
    def loss(model: UnshuffledAutoencoder, generator: torch.Generator) -> dict[str, Tensor]:
        index = torch.randint(len(photos), (BATCH,), generator=generator)
        images = photos.pixels(index).to(budget.device)
        weight = 1 + (PERSON_WEIGHT - 1) * photos.masks(index).to(budget.device)
        posterior = model.encode(images).latent_dist
        decoded = model.decode(with_noise(posterior, generator)).sample.float()
        error = (decoded - images).abs() + 2 * (decoded - images).square()
        return {
            "pixels": (weight * error).mean(),
            "face": FACE_WEIGHT
            * (1 - face_cosine(recogniser, photos, index[:FACES], decoded, images)).mean(),
            "edges": functional.l1_loss(edges(decoded), edges(images)),
            "kl": KL_WEIGHT * posterior.kl().float().mean() / posterior.mean[0].numel() * 10,
        }

    def watch(model: UnshuffledAutoencoder) -> str:
        return str(round_trips(model, check, budget))

    # Train, measure and ship.
    untrained = begin("autoencoder", UnshuffledAutoencoder(), budget)
    trained = train("autoencoder", untrained, loss, budget, 2e-3, average=0.998, watch=watch)
    model = trained.model
    ship(
        "autoencoder",
        model,
        CONFIG,
        trained.record | round_trips(model, check, budget),
        script="autoencoder",
    )


def face_cosine(
    recogniser: WorldRecogniser,
    photos: TrainingPhotos,
    index: Tensor,
    decoded: Tensor,
    images: Tensor,
) -> Tensor:
    """Compute the recogniser's cosine [F] between images and round trips of photos `index` [F].

    It is the perceptual loss (Rombach et al., CVPR 2022, Sec. 3.1), computed by the recogniser
    because eyes, brows and marks have few pixels, and pixel losses lose them first.
    """
    keypoints = torch.from_numpy(photos.keypoints[index.numpy()]).to(images.device)
    crops = [
        align(shown[: len(index)], keypoints, recogniser.crop_size) for shown in (decoded, images)
    ]
    return (recogniser(crops[0]).float() * recogniser(crops[1]).float()).sum(-1)


@torch.no_grad()
def round_trips(
    model: UnshuffledAutoencoder, photos: TrainingPhotos, budget: Budget, count: int = 400
) -> dict[str, float]:
    """Measure the mean peak signal-to-noise ratio in decibels, and the cosines of faces.

    The judge, unlike the recogniser, is not used in the training.
    """
    index = torch.arange(count) * (len(photos) // count)
    images = photos.pixels(index).to(budget.device)
    model.to(budget.device)
    decoded = torch.cat(
        [model.decode(model.encode(part).latent_dist.mode()).sample for part in images.split(100)]
    ).clamp(-1, 1)
    error = ((decoded - images) / 2).square().mean(dim=(1, 2, 3))
    figures = {"psnr_db": round(float((-10 * error.log10()).mean()), 2)}
    for name in ("recogniser", "judge"):
        net = load_recogniser(name).to(budget.device)
        cosine = face_cosine(net, photos, index, decoded, images).mean()
        figures[f"round_trip_cosine_{name}"] = round(float(cosine), 3)
    return figures


if __name__ == "__main__":
    main()
