"""The photos of a source by row: names, captions and pixels; and the photos of each identity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from portraitlab.data.table import PictureColumn, ShardTable, Strings
from portraitlab.types import FaceCoefficients


class Photos:
    """P photos of any source, by row; pixels and strings are read on access.

    Attributes: `size` and `view_size` (pixels), `identity`, `name` and `caption` (one string a
    row), `caption_index` [P] (rows of `captions`, which begin with the empty prompt), `flawed` (one
    bool a row: blurred, badly lit or covered, a reference at most, never a target), `scene` (one
    string a row: rows with the same name are the people of one picture; empty for a picture of one
    person), `close_ups` (True where pictures show more than a portrait and views are close-ups of
    the same people), `framing` (of photos of the world, by which they can be rendered again; empty
    for others).

    table, captions: columns by portraitlab.data.schema. key: hash of the recipe of cached photos.
    left_out: one line for each photo or identity that was left out, with the reason.
    """

    def __init__(
        self,
        table: ShardTable,
        captions: ShardTable,
        size: int,
        view_size: int,
        key: str = "",
        left_out: Sequence[str] = (),
    ) -> None:
        self.table, self.captions = table, captions
        self.size, self.view_size = size, view_size
        self.key, self.left_out = key, tuple(left_out)
        self.framing = ""
        self.identity: list[str] = table.all("identity")
        self.caption_index = torch.tensor(table.all("caption"))
        self.flawed: list[bool] = table.all("flawed") if "flawed" in table else [False] * len(table)
        self.scene: list[str] = table.all("scene") if "scene" in table else [""] * len(table)
        self.close_ups = "scene_keypoints" in table
        self.name = Strings(table, "name")
        self.caption = Strings(captions, "caption", self.caption_index)

    def __len__(self) -> int:
        return len(self.identity)

    def owners(self) -> tuple[list[str], NDArray[np.int64]]:
        """Return the names of the identities, and the number of each photo's identity."""
        names = sorted(set(self.identity))
        number = {name: place for place, name in enumerate(names)}
        return names, np.array([number[name] for name in self.identity], dtype=np.int64)

    def images(self, rows: Sequence[int] | Tensor) -> Tensor:
        """Return photos [B, 3, S, S] in [-1, 1], at the backbone's size."""
        return to_tensor(self._decoded("image", rows))

    def views(self, rows: Sequence[int] | Tensor) -> Tensor:
        """Return the same photos [B, 3, V, V] in [-1, 1], at the encoder's size."""
        return to_tensor(self._decoded("view" if "view" in self.table else "image", rows))

    def person_masks(self, rows: Sequence[int] | Tensor) -> Tensor:
        """Return masks bool [B, S, S], False where a photo is known not to show the person."""
        return self._decoded("person_mask", rows)

    def view_masks(self, rows: Sequence[int] | Tensor) -> Tensor:
        """Return masks bool [B, H, H] of the views, at their size or that of the photos."""
        return self._decoded("view_mask" if self.close_ups else "person_mask", rows)

    def true_coefficients(self, rows: Sequence[int] | Tensor) -> FaceCoefficients:
        """Return the coefficients that photos were rendered with; ValueError for real photos."""
        if "true_shape" not in self.table:
            raise ValueError("These photos were not rendered and have no true coefficients.")
        columns = self.table.columns()
        names = ("true_shape", "true_expression", "true_pose")
        return FaceCoefficients(*(columns[name][rows] for name in names))

    def true_light(self, rows: Sequence[int] | Tensor) -> Tensor:
        """Return the unit vectors to the light [B, 3] (Judged.light) of photos of the world.

        They are not stored: the photos are rendered again, tiny. ValueError for other photos.
        """
        if not self.framing:
            raise ValueError("These photos are not the world's and have no true light.")
        from portraitlab.data.rendering import rendered_again  # slow to import

        named = ((self.identity[row], self.name[row], self.scene[row]) for row in map(int, rows))
        again = [rendered_again(*each, self.framing, 32) for each in named]
        return torch.from_numpy(np.stack([photo.light.direction for photo in again]))

    def _decoded(self, name: str, rows: Sequence[int] | Tensor) -> Tensor:
        return PictureColumn(self.table, name)[rows]


def to_tensor(images: NDArray[np.uint8] | Tensor) -> Tensor:
    """Convert photos uint8 [B, S, S, 3] to images [B, 3, S, S] in [-1, 1]."""
    return torch.as_tensor(images).permute(0, 3, 1, 2).float() / 127.5 - 1


@dataclass(frozen=True)
class Members:
    """The photos of I identities as arrays, so that a million photos need no million objects.

    names: names of the identities. counts [I]: photos of each. rows [P']: the rows of the first
    identity, then those of the second, and so on, each in the store's order.
    """

    names: Sequence[str]
    counts: NDArray[np.int64]
    rows: NDArray[np.int64]

    @property
    def starts(self) -> NDArray[np.int64]:
        """First position in `rows` of each identity [I]."""
        return self.counts.cumsum() - self.counts


def members_of(store: Photos, identities: Sequence[str]) -> Members:
    """Collect the photos of some identities of a store, in the order of `identities`."""
    known, owner = store.owners()
    number = {name: place for place, name in enumerate(identities)}
    requested = np.array([number.get(name, -1) for name in known], dtype=np.int64)
    place = requested[owner]
    taken = np.flatnonzero(place >= 0)
    rows = taken[np.argsort(place[taken], kind="stable")]
    counts = np.bincount(place[taken], minlength=len(identities))
    return Members(identities, counts.astype(np.int64), rows.astype(np.int64))
