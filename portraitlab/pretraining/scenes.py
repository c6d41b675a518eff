"""Training scenes of the larger canvas, rendered ahead in chunks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from portraitlab.pretraining.window import Chunk
from portraitlab.world.canvas import render_canvas
from portraitlab.world.photo import Photo
from portraitlab.world.pool import rendering_pool
from portraitlab.world.render import render_photo
from portraitlab.world.splits import IDENTITIES

SIZE, MOST_PEOPLE = 128, 4
BODIES = {"half": 0.4, "full": 0.25, "group": 0.35}
BODIES_AND_PORTRAITS = {"portrait": 0.3, "half": 0.28, "full": 0.17, "group": 0.25}
"""Shares of the framings among training scenes."""
CHUNK, CHUNKS = 256, 8
"""Scenes per chunk, and the number of chunks in use at a time."""


@dataclass(frozen=True)
class Scenes:
    """S rendered scenes.

    images [S, 128, 128, 3] uint8. person_masks and face_masks [S, 128, 128] bool: pixels of people
    and of their faces. keypoints [S, 4, 5, 2]: keypoints of each person's face, zeros beyond the
    last. people [S]: number of people.
    """

    images: NDArray[np.uint8]
    person_masks: NDArray[np.bool_]
    face_masks: NDArray[np.bool_]
    keypoints: NDArray[np.float32]
    people: NDArray[np.int64]
    captions: list[str]

    def __len__(self) -> int:
        return len(self.images)

    def pixels(self) -> Tensor:
        """Return images [S, 3, 128, 128] in [-1, 1]."""
        return torch.from_numpy(self.images).permute(0, 3, 1, 2).float() / 127.5 - 1


def render_numbered(split: str, number: int, framings: Mapping[str, float]) -> Photo:
    """Render one scene of a split; its number determines framing, people and photo."""
    rng = np.random.default_rng([7301, number])
    framing = str(rng.choice(list(framings), p=list(framings.values())))
    count = int(rng.integers(2, MOST_PEOPLE + 1)) if framing == "group" else 1
    people = [int(seed) for seed in rng.choice(IDENTITIES[split], count, replace=False)]
    if framing == "portrait":
        return render_photo(people[0], number, SIZE)
    return render_canvas(people, number, framing, SIZE)


def render_scenes(
    split: str, first: int, count: int, framings: Mapping[str, float] = BODIES
) -> Scenes:
    """Render scenes first, first + 1, … of a split; framings have the given shares."""
    shots = [render_numbered(split, first + i, framings) for i in range(count)]
    keypoints = np.zeros((count, MOST_PEOPLE, 5, 2), np.float32)
    for row, shot in zip(keypoints, shots, strict=True):
        row[: len(shot.people)] = [person.face.keypoints for person in shot.people]
    return Scenes(
        images=np.stack([shot.image for shot in shots]),
        person_masks=np.stack([shot.person_mask for shot in shots]),
        face_masks=np.stack([_faces(shot) for shot in shots]),
        keypoints=keypoints,
        people=np.array([len(shot.people) for shot in shots]),
        captions=[shot.caption for shot in shots],
    )


def _faces(photo: Photo) -> NDArray[np.bool_]:
    return np.any([person.face.face_mask for person in photo.people], 0)


class SceneStream(Generic[Chunk]):
    """A source of chunks of scenes for a Window; its own process renders the next one meanwhile.

    prepare: converts a chunk's scenes to training data. framings: their shares. size: scenes per
    chunk.
    """

    def __init__(
        self,
        split: str,
        prepare: Callable[[Scenes], Chunk],
        framings: Mapping[str, float] = BODIES,
        size: int = CHUNK,
    ) -> None:
        self.split, self.prepare, self.framings, self.size = split, prepare, framings, size
        self.pool = rendering_pool(1)
        self.rendered: dict[int, Future[Scenes]] = {}

    def __call__(self, number: int) -> Chunk:
        """Return chunk `number`."""
        for wanted in (number, number + 1):
            if wanted not in self.rendered:
                task = (self.split, wanted * self.size, self.size, self.framings)
                self.rendered[wanted] = self.pool.submit(render_scenes, *task)
        return self.prepare(self.rendered.pop(number).result())

    def close(self) -> None:
        """End the process that renders."""
        self.pool.shutdown(cancel_futures=True)
