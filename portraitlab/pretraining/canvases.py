"""Training pictures of the larger canvas, rendered once and cached as arrays."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from portraitlab.pretraining.crowds import Crowd
from portraitlab.pretraining.photos import RENDERER_VERSION
from portraitlab.world.canvas import render_canvas
from portraitlab.world.photo import Face
from portraitlab.world.pool import rendering_pool
from portraitlab.world.splits import IDENTITIES

KINDS = ("half", "full", "group", "group")
"""Framings of pictures 0, 1, 2, 3, repeated for the pictures after them."""
MOST_PEOPLE = 4
_OUTLINE = [*range(17), 71, 70]


@dataclass(frozen=True)
class Canvases:
    """Renders of one split: images [P, 128, 128, 3] uint8, and Crowd's fields of their faces."""

    images: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    keypoints: NDArray[np.float32]
    shown: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.images)

    def crowd(self, index: Tensor) -> Crowd:
        """Return pictures `index` [B] as a Crowd."""
        chosen = index.numpy()
        images = torch.from_numpy(self.images[chosen]).permute(0, 3, 1, 2).float() / 127.5 - 1
        faces = (self.boxes, self.keypoints, self.shown)
        return Crowd(images, *(torch.from_numpy(part[chosen]) for part in faces))

    def by_kind(self) -> dict[str, Crowd]:
        """Return all pictures, separated into half bodies, full bodies and groups."""
        numbers = torch.arange(len(self))
        kinds = np.resize(np.array(KINDS), len(self))
        return {
            kind: self.crowd(numbers[torch.from_numpy(kinds == kind)])
            for kind in dict.fromkeys(KINDS)
        }


def share_in_sight(face: Face) -> float:
    """Return the share of a face's outline on whose pixels its head is drawn.

    Hair, glasses, covers, other people and the picture's edge reduce it.
    """
    x, y = (face.landmarks72[_OUTLINE] * face.face_mask.shape[0]).T
    area = 0.5 * abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))
    return float(min(face.face_mask.sum() / max(area, 1.0), 1.0))


def _render_one(task: tuple[tuple[int, ...], int, str]) -> tuple[NDArray[Any], ...]:
    people, number, framing = task
    photo = render_canvas(people, number, framing)
    boxes = np.zeros((MOST_PEOPLE, 4), np.float32)
    keypoints = np.zeros((MOST_PEOPLE, 5, 2), np.float32)
    shown = np.zeros(MOST_PEOPLE, np.float32)
    for place, person in enumerate(photo.people):
        boxes[place], keypoints[place] = person.face_box, person.face.keypoints
        shown[place] = max(share_in_sight(person.face), 1e-3)  # 0 means no face
    return photo.image, boxes, keypoints, shown


def load_canvases(split: str, count: int, cache: Path, workers: int) -> Canvases:
    """Render `count` pictures of a split's people, or read what an earlier call rendered."""
    path = cache / f"foundation-{RENDERER_VERSION}" / f"{split}-canvases-{count}.npz"
    if not path.exists():
        seeds = IDENTITIES[split]
        tasks = []
        for number in range(count):
            kind = KINDS[number % len(KINDS)]
            people = 2 + number // len(KINDS) % 3 if kind == "group" else 1
            first = number * MOST_PEOPLE % (len(seeds) - MOST_PEOPLE)
            tasks.append((tuple(seeds[first : first + people]), number, kind))
        with rendering_pool(workers) as pool:
            done = pool.map(_render_one, tasks, chunksize=16)
            shots = list(tqdm(done, f"rendering {path.stem}", count, mininterval=5))
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.stem}.part-{os.getpid()}.npz")
        images, boxes, keypoints, shown = (np.stack(column) for column in zip(*shots, strict=True))
        np.savez(part, images=images, boxes=boxes, keypoints=keypoints, shown=shown)
        os.replace(part, path)
    with np.load(path) as arrays:
        return Canvases(**arrays)
