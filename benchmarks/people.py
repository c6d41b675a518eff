"""Time a call of the steered UNet with two to four people beside one.

python benchmarks/people.py      (a quiet machine; writes benchmarks/results/)

FPGA's net on the miniature's UNet at the larger canvas's 32 x 32 latents, and the adapter: one
person whose four tokens act everywhere, and P people whose tokens act in a region each.
"""

from __future__ import annotations

import time

import torch
from records import write

from portraitlab.diffusion.backbone import Backbone
from portraitlab.method.net.adapter import Adapter
from portraitlab.method.net.base import Net
from portraitlab.method.net.mmf import MultiModeFusion
from portraitlab.types import Condition, IdentityTokens, Regions
from portraitlab.world.pretrained import load_backbone

ROUNDS = 20
BATCH, SIZE, TOKENS = 2, 32, 4
NETS = {"mmf": MultiModeFusion, "adapter": Adapter}


def condition_of(backbone: Backbone, people: int) -> Condition:
    """Make random tokens of people, each of whom has an upright strip of the picture."""
    generator = torch.Generator().manual_seed(people)
    count = people * TOKENS
    tokens = torch.randn(BATCH, count, backbone.text_dim, generator=generator)
    mask = torch.ones(BATCH, count, dtype=torch.bool)
    regions = None
    if people > 1:
        areas = torch.zeros(BATCH, people, SIZE, SIZE, dtype=torch.bool)
        wide = SIZE // people
        for person in range(people):
            areas[:, person, 4:20, person * wide : (person + 1) * wide - 1] = True
        owner = torch.arange(people).repeat_interleave(TOKENS).expand(BATCH, -1)
        regions = Regions(areas, owner)
    text = backbone.encode_text(["a photo of a group of people"]).expand(BATCH)
    return Condition(text, IdentityTokens(tokens, mask, regions), drawing=None)


@torch.inference_mode()
def seconds_of(name: str) -> dict[str, float]:
    """Time calls of one net in turns, the least of ROUNDS."""
    backbone = load_backbone()
    net: Net = NETS[name](backbone, False, True).eval()
    noisy = torch.randn(BATCH, backbone.latent_channels, SIZE, SIZE)
    timesteps = torch.full((BATCH,), 500)
    conditions = {people: condition_of(backbone, people) for people in (1, 2, 3, 4)}
    taken: dict[str, list[float]] = {f"{name}, {people}": [] for people in conditions}
    for _ in range(1 + ROUNDS):
        for people, condition in conditions.items():
            begun = time.perf_counter()
            injection = net(noisy, timesteps, condition)
            backbone.predict(noisy, timesteps, condition.text, injection)
            taken[f"{name}, {people}"].append(time.perf_counter() - begun)
    return {way: min(times[1:]) for way, times in taken.items()}


def main() -> None:
    """Time both nets."""
    for name in NETS:
        write(f"people_{name}", seconds_of(name))


if __name__ == "__main__":
    main()
