"""Time preparing photos against a bare loop, and batches of the store against mapped arrays.

python benchmarks/prepared.py      (a quiet machine; writes benchmarks/results/)

Photos (128 px wide) and models are the world's. In the second comparison features are random, in
the sizes of ViT-L/14's and ArcFace's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image
from records import write
from torch import Tensor

from portraitlab.data.batches import TrainingBatches
from portraitlab.data.features import Frozen
from portraitlab.data.photo import read_photo
from portraitlab.data.photo_set import PhotoSet
from portraitlab.data.prepare.columns import PortraitRow, model_columns
from portraitlab.data.prepare.prepare import PrepareOptions, prepare
from portraitlab.data.prepared import PreparedData
from portraitlab.data.usable import usable_portrait
from portraitlab.faces.encoder.world import WorldEncoder
from portraitlab.faces.matting.none import NoMatting
from portraitlab.types import FaceFeatures, FaceGeometry
from portraitlab.world.pretrained import load_backbone, load_clip, load_recogniser, load_regressor
from portraitlab.world.render import render_photo

PEOPLE, PHOTOS, PIXELS = 40, 5, 128
BATCH, REFERENCES, STEPS, ROUNDS = 24, 4, 10, 5
OPTIONS = PrepareOptions(
    caption="a photo of a person", minimum_side=32, precision="float16", shard=64, batch=32
)


class LargeFeatures(WorldEncoder):
    """The world's encoder, with random features in the sizes of real encoders."""

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.local_length, self.local_dim, self.global_dim = 257, 1024, 512

    def encode(
        self, images: Tensor, person_mask: Tensor, geometry: FaceGeometry
    ) -> tuple[Tensor, Tensor]:
        """Return random features [B, 257, 1024] and [B, 512]."""
        local = torch.randn(len(images), self.local_length, self.local_dim)
        return local, torch.randn(len(images), self.global_dim)


def photos(folder: Path) -> Path:
    """Render photos, a folder for each person."""
    for person in range(PEOPLE):
        place = folder / f"{person:03d}"
        place.mkdir(parents=True)
        for number in range(PHOTOS):
            Image.fromarray(render_photo(person, number, PIXELS).image).save(
                place / f"{number}.png"
            )
    return folder


def one_by_one(root: Path, frozen: Frozen) -> None:
    """Do the work of preparing photo by photo, without storing anything."""
    size = frozen.backbone.image_size
    for row, path in enumerate(sorted(root.glob("*/*.png"))):
        portrait = usable_portrait(
            read_photo(path), frozen.encoder, NoMatting(), OPTIONS.minimum_side
        )
        model_columns(frozen, [PortraitRow(row, portrait.columns(size), portrait.face)])


def preparing(root: Path, place: Path, frozen: Frozen) -> None:
    """Time preparing a photo, in turns, so that other work on the machine affects both alike."""
    ways: dict[str, Callable[[Path], object]] = {
        "a bare loop, photo by photo, nothing stored": lambda _: one_by_one(root, frozen),
        "portraitlab data prepare, one process": lambda out: prepare(
            root, out, frozen, NoMatting(), OPTIONS, workers=0
        ),
    }
    seconds = dict.fromkeys(ways, float("inf"))
    for turn in range(3):
        for number, (name, way) in enumerate(ways.items()):
            begun = time.perf_counter()
            way(place / f"{turn}-{number}")
            taken = (time.perf_counter() - begun) / (PEOPLE * PHOTOS)
            seconds[name] = min(seconds[name], taken)
    write("preparing", seconds, photos=PEOPLE * PHOTOS, pixels=PIXELS)


def mapped(photos: PhotoSet, folder: Path) -> Callable[[Tensor, Tensor], FaceFeatures]:
    """Save the store's features as mapped arrays; return a function that reads references."""
    rows = torch.arange(len(photos.store))
    arrays = []
    for name in ("local", "global_"):
        whole = getattr(photos.features, name)[rows].numpy()
        np.save(folder / f"{name}.npy", whole)
        arrays.append(np.load(folder / f"{name}.npy", mmap_mode="r"))
    local, global_ = arrays

    def references(rows: Tensor, mask: Tensor) -> FaceFeatures:
        return FaceFeatures(
            local_=torch.from_numpy(local[rows]).float() * mask[..., None, None],
            global_=torch.from_numpy(global_[rows]) * mask[..., None],
            mask=mask,
        )

    return references


def reading(root: Path, place: Path, frozen: Frozen) -> None:
    """Time reading the features of a batch's references, from a warm cache."""
    prepare(root, place / "store", frozen, NoMatting(), OPTIONS, workers=0)
    data = PreparedData(str(place / "store"))
    kept = data.train_photos(frozen)
    batches = TrainingBatches(kept, refs=REFERENCES, batch_size=BATCH, steps=STEPS, seed=0)
    plain = mapped(kept, place)
    generator = torch.Generator().manual_seed(0)
    requests = [
        torch.randint(len(kept.store), (BATCH, REFERENCES), generator=generator)
        for _ in range(STEPS)
    ]
    mask = torch.ones(BATCH, REFERENCES, dtype=torch.bool)
    ways: dict[str, Callable[[int], object]] = {
        "references from mapped arrays, a bare loop": lambda step: plain(requests[step], mask),
        "references from the store": lambda step: kept.features.references(requests[step], mask),
        "a whole batch from the store": lambda step: batches[step],
    }
    seconds = dict.fromkeys(ways, float("inf"))
    for _ in range(1 + ROUNDS):
        for name, way in ways.items():
            begun = time.perf_counter()
            for step in range(STEPS):
                way(step)
            seconds[name] = min(seconds[name], (time.perf_counter() - begun) / STEPS)
    write("prepared_batch", seconds, batch_size=BATCH, references=REFERENCES)


def main() -> None:
    """Run both comparisons; each is written when it is done."""
    backbone, recogniser = load_backbone(), load_recogniser("recogniser")
    parts = load_clip(), recogniser, load_regressor()
    with TemporaryDirectory() as folder:
        place = Path(folder)
        root = photos(place / "photos")
        preparing(root, place / "prepared", Frozen(WorldEncoder(*parts), backbone, recogniser))
        reading(root, place, Frozen(LargeFeatures(*parts), backbone, recogniser))


if __name__ == "__main__":
    main()
