"""A sheet of what the text-to-image model draws: rows of samples, each above renders.

python -m portraitlab.world.train.samples --out docs/images/samples.png

A sample and the render below it have the same caption, which says nothing of the person.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from portraitlab.world.foundation import load_backbone
from portraitlab.world.render import render_photo
from portraitlab.world.splits import IDENTITIES
from portraitlab.world.train.text_to_image import beside, sample, save_sheet

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


if __name__ == "__main__":
    main()
