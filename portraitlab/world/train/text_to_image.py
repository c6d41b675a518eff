"""Train the world's text-to-image UNet on frozen latents and texts.

python -m portraitlab.world.train.text_to_image --minutes 100
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from portraitlab.backbone.diffusion import Backbone
from portraitlab.world.foundation import load_autoencoder, load_clip, load_regressor
from portraitlab.world.models.autoencoder import UnshuffledAutoencoder
from portraitlab.world.models.text_to_image import CONFIG, PROMPT_LENGTH, make_scheduler, make_unet
from portraitlab.world.tokenizer import WordTokenizer
from portraitlab.world.train.loop import Budget, budget_arguments, train
from portraitlab.world.train.photos import TrainingPhotos, load_photos
from portraitlab.world.train.ship import ship

BATCH = 32
PROMPTS_DROPPED = 0.1
DESCRIBED = 0.8
"""Share of prompts that tell the looks too, as texts on the web do. What the UNet's cross-attention
learns of looks from them is what a ControlNet that starts as its copy can build on."""
AVERAGE = 0.9985


def encode_photos(
    autoencoder: UnshuffledAutoencoder, photos: TrainingPhotos, device: str
) -> Tensor:
    """The latents' means [P, 4, 16, 16] in fp16, unscaled."""
    autoencoder.to(device)
    parts = []
    with torch.no_grad():
        for index in tqdm(torch.arange(len(photos)).split(128), desc="encoding", mininterval=10):
            posterior = autoencoder.encode(photos.pixels(index).to(device)).latent_dist
            parts.append(posterior.mode().half().cpu())
    return torch.cat(parts)


def encode_texts(backbone: Backbone, prompts: list[str]) -> Callable[[Tensor], Tensor]:
    """Gives the features [B, K, dt] in fp16 of prompts [B]; each different one is encoded once."""
    different = sorted(set(prompts))
    parts = [
        backbone.encode_text(different[start : start + 128]).half().cpu()
        for start in tqdm(range(0, len(different), 128), desc="reading", mininterval=10)
    ]
    features = torch.cat(parts)
    place = {prompt: number for number, prompt in enumerate(different)}
    places = torch.tensor([place[prompt] for prompt in prompts])
    return lambda index: features[places[index]]


def main() -> None:
    """Run the command."""
    budget = budget_arguments(__doc__.splitlines()[0], minutes=100)
    photos = load_photos("foundation", 7000, 6, budget.cache, budget.workers)
    check = load_photos("foundation_check", 300, 8, budget.cache, budget.workers)
    torch.manual_seed(budget.seed)
    autoencoder = load_autoencoder()
    latents = encode_photos(autoencoder, photos, budget.device)
    shift = latents.float().mean((0, 2, 3)).tolist()
    scale = (1 / latents.float().std((0, 2, 3))).tolist()
    backbone = Backbone(
        unet=make_unet(), autoencoder=autoencoder, text_encoder=load_clip().model.text_model,
        tokenizer=WordTokenizer(PROMPT_LENGTH), scheduler=make_scheduler(),
        latent_scale=scale, latent_shift=shift,
    ).to(budget.device)  # fmt: skip
    latents = (latents.float() - backbone.latent_shift.cpu()) * backbone.latent_scale.cpu()
    captions = encode_texts(backbone, photos.captions)
    descriptions = encode_texts(backbone, photos.descriptions)
    empty = backbone.encode_text([""])

    def loss(unet: UNet2DConditionModel, generator: torch.Generator) -> dict[str, Tensor]:
        index = torch.randint(len(photos), (BATCH,), generator=generator)
        clean = latents[index].to(budget.device)
        noise = torch.randn(clean.shape, generator=generator).to(budget.device)
        timesteps = torch.randint(backbone.timesteps, (BATCH,), generator=generator).to(
            budget.device
        )
        described = torch.rand(BATCH, 1, generator=generator) < DESCRIBED
        text = torch.where(described[..., None], descriptions(index), captions(index))
        text = text.to(budget.device).float()
        dropped = torch.rand(BATCH, 1, 1, generator=generator).to(budget.device) < PROMPTS_DROPPED
        text = torch.where(dropped, empty, text)
        noisy = backbone.add_noise(clean, noise, timesteps)
        predicted = unet(noisy, timesteps, text).sample.float()
        return {
            "velocity": functional.mse_loss(
                predicted, backbone.training_target(clean, noise, timesteps)
            )
        }

    def watch(unet: UNet2DConditionModel) -> str:
        prompts = [check.descriptions[8 * i] for i in range(40)]
        images = sample(unet.to(budget.device), backbone, prompts, seed=0, guidance=2.0)
        save_sheet(images, budget.work / "text_to_image.png")
        return f"sheet in {budget.work / 'text_to_image.png'}"

    trained = train("text_to_image", make_unet(), loss, budget, 8e-4, average=AVERAGE, watch=watch)
    unet = trained.model
    quality = measure(unet, backbone, check, budget)
    ship(
        "text_to_image",
        unet,
        CONFIG,
        trained.record | quality,
        script="text_to_image",
        latent_scale=scale,
        latent_shift=shift,
    )


@torch.no_grad()
def sample(
    unet: UNet2DConditionModel,
    backbone: Backbone,
    prompts: list[str],
    seed: int,
    guidance: float,
    steps: int = 25,
) -> Tensor:
    """Images [B, 3, 64, 64] in [-1, 1] of prompts alone, by DDIM."""
    device = backbone.latent_scale.device
    scheduler = make_scheduler()
    scheduler.set_timesteps(steps)
    text = torch.cat(
        [backbone.encode_text(prompts), backbone.encode_text([""]).expand(len(prompts), -1, -1)]
    )
    shape = (len(prompts), backbone.latent_channels, backbone.latent_size, backbone.latent_size)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device)
    for timestep in scheduler.timesteps:
        told, free = unet(torch.cat([latents, latents]), timestep.to(device), text).sample.chunk(2)
        latents = scheduler.step(free + guidance * (told - free), timestep, latents).prev_sample
    return backbone.decode(latents).clamp(-1, 1)


def save_sheet(images: Tensor, path: Path, columns: int = 10) -> None:
    """Images [B, 3, H, W] in [-1, 1] as one picture."""
    tiles = ((images.cpu().permute(0, 2, 3, 1) + 1) * 127.5).round().byte().numpy()
    rows = [np.concatenate(list(tiles[i : i + columns]), 1) for i in range(0, len(tiles), columns)]
    Image.fromarray(np.concatenate(rows)).save(path)


@torch.no_grad()
def measure(
    unet: UNet2DConditionModel,
    backbone: Backbone,
    check: TrainingPhotos,
    budget: Budget,
    count: int = 400,
) -> dict[str, float]:
    """What share of samples has a face, and the Fréchet distance to held-out renders.

    The distance is taken on the CLIP-like's image embeddings; beside it that of the autoencoder's
    round trips of the same renders, which no sampler on these latents can be asked to beat.
    """
    from cleanfid.fid import frechet_distance

    clip, regressor = load_clip().to(budget.device), load_regressor().to(budget.device)
    unet.to(budget.device)
    index = torch.arange(count) * (len(check) // count)
    other = index + len(check) // count // 2
    prompts = [check.captions[i] for i in index.tolist()]
    parts = [
        sample(unet, backbone, prompts[i : i + 50], seed=1000 + i, guidance=2.0)
        for i in range(0, count, 50)
    ]
    drawn = torch.cat(parts)
    save_sheet(drawn[:40], budget.work / "text_to_image.png")

    def statistics(images: Tensor) -> tuple[np.ndarray, np.ndarray]:
        features = (
            torch.cat([clip.image_embedding(part) for part in images.split(100)])
            .cpu()
            .double()
            .numpy()
        )
        return features.mean(0), np.cov(features, rowvar=False)

    real = statistics(check.pixels(other).to(budget.device))
    renders = check.pixels(index).to(budget.device)
    trips = torch.cat(
        [backbone.decode(backbone.encode(part)).clamp(-1, 1) for part in renders.split(50)]
    )
    return {
        "faces_accepted": round(float((regressor(drawn).score > 0.5).float().mean()), 3),
        "faces_accepted_of_renders": round(
            float((regressor(renders).score > 0.5).float().mean()), 3
        ),
        "fid": round(float(frechet_distance(*real, *statistics(drawn))), 4),
        "fid_of_round_trips": round(float(frechet_distance(*real, *statistics(trips))), 4),
        "fid_of_renders": round(float(frechet_distance(*real, *statistics(renders))), 4),
    }


if __name__ == "__main__":
    main()
