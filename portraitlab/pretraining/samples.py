"""A sheet of what the text-to-image model draws: rows of samples, each above renders.

python -m portraitlab.pretraining.samples --out docs/images/samples.png

A sample and the render below it have the same caption, which does not describe the person.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from portraitlab.diffusion.backbone import Backbone
from portraitlab.types import Injection, TextFeatures
from portraitlab.world.models.text_to_image import make_scheduler
from portraitlab.world.pretrained import load_backbone
from portraitlab.world.render import render_photo
from portraitlab.world.splits import IDENTITIES

COLUMNS = 10


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("samples.png"))
    parser.add_argument("--rows", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    people = IDENTITIES["foundation_check"][: given.rows * COLUMNS]
    photos = [render_photo(seed, given.seed) for seed in people]
    drawn = sample(load_backbone(), [photo.caption for photo in photos], seed=given.seed)
    images = torch.stack([torch.from_numpy(photo.image) for photo in photos])
    renders = images.permute(0, 3, 1, 2) / 127.5 - 1
    save_sheet(beside(drawn, renders, COLUMNS), given.out, COLUMNS)
    print(f"{len(photos)} samples above renders of the same captions: {given.out}")


@torch.no_grad()
def sample(
    backbone: Backbone,
    prompts: list[str] | TextFeatures,
    seed: int,
    guidance: float = 2.0,
    steps: int = 25,
    steer: Callable[[Tensor, Tensor], Injection] = lambda latents, timesteps: Injection(),
) -> Tensor:
    """Sample images [B, 3, H, W] in [-1, 1] by DDIM.

    prompts: texts, or their features. guidance: 1 disables guidance, at half the cost. steer: maps
    latents [B, 4, h, w] and timesteps [B] to what is injected beside the prompts.
    """
    device = backbone.latent_scale.device
    scheduler = make_scheduler()
    scheduler.set_timesteps(steps)
    text = prompts if isinstance(prompts, TextFeatures) else backbone.encode_text(prompts)
    empty = backbone.encode_text([""] * len(prompts))
    shape = (len(prompts), backbone.latent_channels, backbone.latent_size, backbone.latent_size)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device)
    for timestep in scheduler.timesteps:
        level = timestep.to(device).expand(len(latents))
        velocity = backbone.predict(latents, level, text, steer(latents, level))
        if guidance != 1:
            free = backbone.predict(latents, level, empty, Injection())
            velocity = free + guidance * (velocity - free)
        latents = scheduler.step(velocity, timestep, latents).prev_sample
    return backbone.decode(latents).clamp(-1, 1)


def beside(drawn: Tensor, renders: Tensor, columns: int = 10) -> Tensor:
    """Interleave rows of drawn images and of renders [2 B, 3, H, W]; columns divides B."""
    rows = zip(drawn.split(columns), renders.split(columns), strict=True)
    return torch.cat([row for pair in rows for row in pair])


def save_sheet(images: Tensor, path: Path, columns: int = 10) -> None:
    """Save images [B, 3, H, W] in [-1, 1] as one picture."""
    tiles = ((images.cpu().permute(0, 2, 3, 1) + 1) * 127.5).round().byte().numpy()
    rows = [np.concatenate(list(tiles[i : i + columns]), 1) for i in range(0, len(tiles), columns)]
    Image.fromarray(np.concatenate(rows)).save(path)


if __name__ == "__main__":
    main()
