"""Training photos of the foundation, rendered once and cached as arrays."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from portraitlab.types import FaceCoefficients
from portraitlab.world.identity import SHAPE_SIZE, make_identity
from portraitlab.world.pool import rendering_pool
from portraitlab.world.render import render_photo
from portraitlab.world.settings import EXPRESSION_SIZE, POSE_SIZE, make_settings
from portraitlab.world.splits import IDENTITIES
from portraitlab.world.traits import traits

RENDERER_VERSION = 3
"""Version of the cached photos, to be raised when the same seeds give other pixels."""


@dataclass(frozen=True)
class TrainingPhotos:
    """Renders of one split, with the photos of an identity next to each other.

    images [P, S, S, 3] and person_masks [P, S, S]: uint8, S is 64 by default. truth [P, 32]: shape,
    expression and pose. keypoints [P, 5, 2]. identities [P]: 0, 1, 2 … in the split.
    """

    images: NDArray[np.uint8]
    person_masks: NDArray[np.uint8]
    truth: NDArray[np.float32]
    keypoints: NDArray[np.float32]
    identities: NDArray[np.int64]
    captions: list[str]
    descriptions: list[str]

    def __len__(self) -> int:
        return len(self.images)

    def __add__(self, other: TrainingPhotos) -> TrainingPhotos:
        """Concatenate two sets of photos, of the same people or of others."""
        return TrainingPhotos(
            images=np.concatenate([self.images, other.images]),
            person_masks=np.concatenate([self.person_masks, other.person_masks]),
            truth=np.concatenate([self.truth, other.truth]),
            keypoints=np.concatenate([self.keypoints, other.keypoints]),
            identities=np.concatenate([self.identities, other.identities]),
            captions=self.captions + other.captions,
            descriptions=self.descriptions + other.descriptions,
        )

    def pixels(self, index: Tensor) -> Tensor:
        """Return images [B, 3, S, S] in [-1, 1]."""
        chosen = torch.from_numpy(self.images[index.numpy()])
        return chosen.permute(0, 3, 1, 2).float() / 127.5 - 1

    def masks(self, index: Tensor) -> Tensor:
        """Return person masks [B, 1, S, S], 1 on the person."""
        return torch.from_numpy(self.person_masks[index.numpy()]).float()[:, None]

    def coefficients(self, index: Tensor) -> FaceCoefficients:
        """Return the true coefficients of photos `index` [B]."""
        sizes = [SHAPE_SIZE, EXPRESSION_SIZE, POSE_SIZE]
        shape, expression, pose = torch.from_numpy(self.truth[index.numpy()]).split(sizes, 1)
        return FaceCoefficients(shape, expression, pose)


def _render_identity(task: tuple[int, int, str, int]) -> tuple[list[Any], ...]:
    seed, photos, framing, size = task
    shots = [render_photo(seed, photo, size, framing) for photo in range(photos)]
    truth = [np.concatenate([shot.shape, shot.expression, shot.pose]) for shot in shots]
    return (
        [shot.image for shot in shots],
        [shot.person_mask.astype(np.uint8) for shot in shots],
        truth,
        [shot.keypoints for shot in shots],
        [shot.caption for shot in shots],
        [shot.description for shot in shots],
    )


def load_photos(
    split: str,
    identities: int,
    photos: int,
    cache: Path,
    workers: int,
    framing: str = "portrait",
    size: int = 64,
) -> TrainingPhotos:
    """Render `identities` of a split with `photos` each, or read what an earlier call rendered.

    framing: see portraitlab.world.settings.make_settings. size: S, of the photos in pixels.
    """
    name = f"{split}-{identities}x{photos}" + ("" if framing == "portrait" else f"-{framing}")
    name += "" if size == 64 else f"-{size}px"
    folder = cache / f"foundation-{RENDERER_VERSION}" / name
    if not folder.exists():
        tasks = [(seed, photos, framing, size) for seed in IDENTITIES[split][:identities]]
        _render(tasks, folder, workers)
    arrays = {
        name: np.load(folder / f"{name}.npy")
        for name in ("images", "person_masks", "truth", "keypoints")
    }
    texts = json.loads((folder / "texts.json").read_text())
    order = np.repeat(np.arange(identities), photos)
    return TrainingPhotos(
        identities=order, captions=texts["captions"], descriptions=texts["descriptions"], **arrays
    )


def load_framings(
    split: str, identities: int, photos: dict[str, int], cache: Path, workers: int
) -> TrainingPhotos:
    """Load photos of the same people in several framings, one framing after the other.

    photos: how many of each person, by framing.
    """
    first, *others = (
        load_photos(split, identities, count, cache, workers, framing)
        for framing, count in photos.items()
    )
    return sum(others, start=first)


def load_checks(framings: Iterable[str], cache: Path, workers: int) -> dict[str, TrainingPhotos]:
    """Load the photos that a model is measured on, by the suffix of the figures' names.

    The suffix is empty for portraits and `_varied` for varied framing.
    """
    return {
        "" if framing == "portrait" else f"_{framing}": load_photos(
            "foundation_check", 300, 8, cache, workers, framing
        )
        for framing in framings
    }


def flawed(split: str, identities: int, photos: int) -> NDArray[np.bool_]:
    """Return True for photos with a flaw [P], in the order of `load_photos`."""
    seeds = IDENTITIES[split][:identities]
    flaws = [bool(make_settings(seed, photo).flaws) for seed in seeds for photo in range(photos)]
    return np.array(flaws)


def load_traits(split: str, identities: int, photos: int) -> Tensor:
    """Compute the traits [P, TRAITS_SIZE] of people in photos, in the order of `load_photos`."""
    seeds = IDENTITIES[split][:identities]
    rows = [
        traits(make_identity(seed), make_settings(seed, photo))
        for seed in seeds
        for photo in range(photos)
    ]
    return torch.from_numpy(np.stack(rows))


def _render(tasks: list[tuple[int, int, str, int]], folder: Path, workers: int) -> None:
    columns: tuple[list, ...] = ([], [], [], [], [], [])
    with rendering_pool(workers) as pool:
        done = pool.map(_render_identity, tasks, chunksize=8)
        for result in tqdm(
            done, total=len(tasks), desc=f"rendering {folder.name}", unit="identity", mininterval=5
        ):
            for column, values in zip(columns, result, strict=True):
                column.extend(values)
    part = folder.with_name(f"{folder.name}.part-{os.getpid()}")
    part.mkdir(parents=True)
    for name, column in zip(
        ("images", "person_masks", "truth", "keypoints"), columns, strict=False
    ):
        np.save(part / f"{name}.npy", np.stack(column))
    (part / "texts.json").write_text(
        json.dumps({"captions": columns[4], "descriptions": columns[5]})
    )
    try:
        part.rename(folder)
    except OSError:
        # Another process has rendered the same photos meanwhile; equal seeds give equal pixels.
        if not folder.exists():
            raise
        shutil.rmtree(part)
