"""Train the world's text-to-image UNet and its text encoder on frozen latents.

python -m portraitlab.pretraining.text_to_image --minutes 332
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from portraitlab.diffusion.backbone import Backbone
from portraitlab.pretraining.faces import embed_faces
from portraitlab.pretraining.frechet import frechet, statistics
from portraitlab.pretraining.loop import Budget, budget_arguments, train
from portraitlab.pretraining.photos import TrainingPhotos, load_photos
from portraitlab.pretraining.samples import beside, sample, save_sheet
from portraitlab.pretraining.ship import begin, ship
from portraitlab.world.models.autoencoder import UnshuffledAutoencoder
from portraitlab.world.models.text_to_image import (
    CONFIG,
    PROMPT_LENGTH,
    TextToImage,
    make_scheduler,
)
from portraitlab.world.pretrained import (
    load_autoencoder,
    load_clip,
    load_recogniser,
    load_regressor,
)
from portraitlab.world.tokenizer import WordTokenizer

BATCH = 32
PROMPTS_DROPPED = 0.1
DESCRIBED = 0.8
"""Share of prompts that describe the looks too, as texts on the web do. The UNet's cross-attention
learns looks from them, and so does a ControlNet that starts as its copy."""
BACKGROUND_WEIGHT = 0.3
"""Weight of errors on the background; on the person, whom all experiments are about, it is 1.
Stripes and dots are easy to see and hard to guess."""
AVERAGE = 0.9995


def encode_photos(
    autoencoder: UnshuffledAutoencoder, photos: TrainingPhotos, device: str
) -> Tensor:
    """Encode photos to latent means [P, 4, 16, 16] in fp16, unscaled."""
    autoencoder.to(device)
    parts = []
    with torch.no_grad():
        for index in tqdm(torch.arange(len(photos)).split(128), desc="encoding", mininterval=10):
            posterior = autoencoder.encode(photos.pixels(index).to(device)).latent_dist
            parts.append(posterior.mode().half().cpu())
    return torch.cat(parts)


def person_weights(photos: TrainingPhotos, size: int) -> Tensor:
    """Return the weight of errors in each latent cell of each photo [P, 1, size, size].

    It is between BACKGROUND_WEIGHT, for cells without the person, and 1.
    """
    parts = torch.arange(len(photos)).split(1024)
    person = torch.cat([functional.adaptive_avg_pool2d(photos.masks(part), size) for part in parts])
    return BACKGROUND_WEIGHT + (1 - BACKGROUND_WEIGHT) * person


def main() -> None:
    """Run the command."""
    budget = budget_arguments(__doc__.splitlines()[0], minutes=332)
    photos = load_photos("foundation", 7000, 6, budget.cache, budget.workers)
    photos += load_photos("foundation", 7000, 3, budget.cache, budget.workers, "varied")
    check = load_photos("foundation_check", 300, 8, budget.cache, budget.workers)
    torch.manual_seed(budget.seed)
    # Encode the photos, and measure the latents' scale.
    autoencoder = load_autoencoder()
    latents = encode_photos(autoencoder, photos, budget.device)
    shift = latents.float().mean((0, 2, 3)).tolist()
    scale = (1 / latents.float().std((0, 2, 3))).tolist()

    def backbone_of(model: TextToImage) -> Backbone:
        return Backbone(
            unet=model.unet, autoencoder=autoencoder, text_encoder=model.text_encoder,
            tokenizer=WordTokenizer(PROMPT_LENGTH), scheduler=make_scheduler(),
            latent_scale=scale, latent_shift=shift,
        ).to(budget.device)  # fmt: skip

    untrained = begin("text_to_image", TextToImage(), budget)
    backbone = backbone_of(untrained)
    untrained.requires_grad_(True)  # building a backbone freezes its parts
    # Scale the latents, and tokenize the texts.
    latents = (latents.float() - backbone.latent_shift.cpu()) * backbone.latent_scale.cpu()
    weights = person_weights(photos, backbone.latent_size)
    captions = backbone.tokenizer(photos.captions)
    descriptions = backbone.tokenizer(photos.descriptions)
    empty = backbone.tokenizer([""])

    def loss(model: TextToImage, generator: torch.Generator) -> dict[str, Tensor]:
        index = torch.randint(len(photos), (BATCH,), generator=generator)
        clean = latents[index].to(budget.device)
        noise = torch.randn(clean.shape, generator=generator).to(budget.device)
        timesteps = torch.randint(backbone.timesteps, (BATCH,), generator=generator).to(
            budget.device
        )
        described = torch.rand(BATCH, 1, generator=generator) < DESCRIBED
        dropped = torch.rand(BATCH, 1, generator=generator) < PROMPTS_DROPPED
        tokens = torch.where(described, descriptions[index], captions[index])
        tokens = torch.where(dropped, empty, tokens).to(budget.device)
        noisy = backbone.add_noise(clean, noise, timesteps)
        predicted = model(noisy, timesteps, tokens).float()
        error = (predicted - backbone.training_target(clean, noise, timesteps)).square()
        weight = weights[index].to(budget.device)
        return {"velocity": (weight * error).sum() / weight.sum() / error.shape[1]}

    def watch(model: TextToImage) -> str:
        prompts = [check.descriptions[8 * i] for i in range(40)]
        save_sheet(sample(backbone_of(model), prompts, seed=0), budget.work / "text_to_image.png")
        return f"sheet in {budget.work / 'text_to_image.png'}"

    # Train, measure and ship.
    trained = train("text_to_image", untrained, loss, budget, 8e-4, average=AVERAGE, watch=watch)
    quality = measure(backbone_of(trained.model), check, budget)
    ship(
        "text_to_image",
        trained.model,
        CONFIG,
        trained.record | quality,
        script="text_to_image",
        latent_scale=scale,
        latent_shift=shift,
    )


@torch.no_grad()
def measure(
    backbone: Backbone, check: TrainingPhotos, budget: Budget, count: int = 400
) -> dict[str, float]:
    """Measure the share of samples with a face, and the Fréchet distance to held-out renders.

    The distance is computed on the CLIP-like model's image embeddings. That of the autoencoder's
    round trips of the same renders is a bound for samplers on these latents. described_likeness:
    the judge's mean cosine between a sample drawn from a description and a photo of the described
    person, which measures if words for looks are followed. Pairwise cosine: the judge's mean over
    all pairs of faces, greater for less diverse people.
    """
    clip, regressor = load_clip().to(budget.device), load_regressor().to(budget.device)
    judge = load_recogniser("judge").to(budget.device)
    index = torch.arange(count) * (len(check) // count)
    other = index + len(check) // count // 2

    def draw(prompts: list[str]) -> Tensor:
        rounds = range(0, count, 50)
        return torch.cat([sample(backbone, prompts[i : i + 50], seed=1000 + i) for i in rounds])

    def faces(images: Tensor) -> Tensor:
        return embed_faces(images, regressor, judge)

    # Draw from captions, and decode the round trips.
    drawn = draw([check.captions[i] for i in index.tolist()])

    real = statistics(clip, check.pixels(other).to(budget.device))
    renders = check.pixels(index).to(budget.device)
    save_sheet(beside(drawn[:30], renders[:30]), budget.work / "text_to_image.png")
    trips = torch.cat(
        [backbone.decode(backbone.encode(part)).clamp(-1, 1) for part in renders.split(50)]
    )

    def alike(images: Tensor) -> float:
        shown = images[regressor(images).score > 0.5]
        cosine = faces(shown) @ faces(shown).T
        return round(float(cosine[~torch.eye(len(cosine), dtype=torch.bool)].mean()), 3)

    # Draw from descriptions, and compare the people.
    described = draw([check.descriptions[i] for i in index.tolist()])
    likeness = (faces(described) * faces(check.pixels(other).to(budget.device))).sum(-1).mean()
    return {
        "described_likeness": round(float(likeness), 3),
        "faces_accepted": round(float((regressor(drawn).score > 0.5).float().mean()), 3),
        "faces_accepted_of_renders": round(
            float((regressor(renders).score > 0.5).float().mean()), 3
        ),
        "pairwise_cosine": alike(drawn),
        "pairwise_cosine_of_renders": alike(renders),
        "fid": frechet(real, statistics(clip, drawn)),
        "fid_of_round_trips": frechet(real, statistics(clip, trips)),
        "fid_of_renders": frechet(real, statistics(clip, renders)),
    }


if __name__ == "__main__":
    main()
