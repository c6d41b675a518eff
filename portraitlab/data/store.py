"""A store of photos of many identities in one memory-mapped Arrow file.

A sample is one target and several references of one identity. That is random access, which Arrow
supports without reading all photos into memory.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from portraitlab.support.hashes import content_key
from portraitlab.support.lock import locked
from portraitlab.types import FaceCoefficients

FORMAT = 4
"""Version of all cached data; part of every key, also of the features', and checked on load.

Raise it whenever the same recipe results in other contents.
"""

_ROWS_PER_BATCH = 256


@dataclass(frozen=True)
class StoredPhoto:
    """A photo to be stored.

    identity and name: `name` is unique within its identity. image uint8 [S, S, 3]: RGB at the
    backbone's size. view uint8 [V, V, 3]: the same picture at the encoder's size; None where the
    two sizes are equal. person_mask bool [S, S]: False where it is known not to be the person.
    face_mask bool [S, S]: True on the face; None where it is to be drawn from landmarks.
    shape [S'], expression [E'], pose [6]: true coefficients, known of rendered photos only.
    flawed: True if blurred, badly lit or covered: a reference at most, never a target.
    """

    identity: str
    name: str
    caption: str
    image: NDArray[np.uint8]
    view: NDArray[np.uint8] | None
    person_mask: NDArray[np.bool_]
    face_mask: NDArray[np.bool_] | None = None
    coefficients: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]] | None = None
    flawed: bool = False


class PhotoStore:
    """Read access to a stored list of photos; rows are numbered from 0.

    Attributes: `size` and `view_size` (pixels), `identity`, `name` and `caption` (one string a
    row), `flawed` (one bool a row), `left_out` (one line for each photo or identity that was left
    out, with the reason) and `key` (hash of the recipe, under which it is cached).

    Raises ValueError if the folder has another format or is damaged.
    """

    def __init__(self, folder: Path) -> None:
        remedy = f"Delete {folder} and run again: it will be made anew."
        try:
            about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
            file = pa.ipc.open_file(pa.memory_map(str(folder / "photos.arrow")))
            batches = [file.get_batch(number) for number in range(file.num_record_batches)]
        except (OSError, pa.ArrowInvalid, json.JSONDecodeError) as error:
            raise ValueError(
                f"The photo store {folder} cannot be read ({error}). {remedy}"
            ) from error
        if about.get("format") != FORMAT:
            raise ValueError(
                f"The photo store {folder} has format {about.get('format')}, not {FORMAT}. {remedy}"
            )

        # Read the columns; images stay memory-mapped.
        self.key: str = about["key"]
        self.size: int = about["size"]
        self.view_size: int = about["view_size"]
        self.left_out: tuple[str, ...] = tuple(about["left_out"])
        table = pa.Table.from_batches(batches, schema=file.schema)
        if len(table) != about["photos"]:
            raise ValueError(
                f"The photo store {folder} has {len(table)} photos, not {about['photos']}. {remedy}"
            )
        self.identity: list[str] = table["identity"].to_pylist()
        self.name: list[str] = table["name"].to_pylist()
        self.caption: list[str] = table["caption"].to_pylist()
        self.flawed: list[bool] = table["flawed"].to_pylist()
        self._table = table
        self._images = [_pixels(batch["image"], self.size) for batch in batches]
        self._views = (
            self._images
            if self.view_size == self.size
            else [_pixels(batch["view"], self.view_size) for batch in batches]
        )
        self._masks = [_bytes(batch["person_mask"]) for batch in batches]
        self._faces = [_bytes(batch["face_mask"]) for batch in batches]
        self.has_face_masks = table["face_mask"].null_count == 0

    def __len__(self) -> int:
        return len(self.identity)

    def owners(self) -> tuple[list[str], NDArray[np.int64]]:
        """Return the names of the identities, and the number of each photo's identity."""
        names, owner = np.unique(np.array(self.identity, dtype=object), return_inverse=True)
        return names.tolist(), owner

    def images(self, rows: Sequence[int] | Tensor) -> Tensor:
        """Return photos [B, 3, S, S] as floats in [-1, 1], at the backbone's size."""
        return to_tensor(_gather(self._images, rows))

    def views(self, rows: Sequence[int] | Tensor) -> Tensor:
        """Return photos [B, 3, V, V] as floats in [-1, 1], at the encoder's size."""
        return to_tensor(_gather(self._views, rows))

    def person_masks(self, rows: Sequence[int] | Tensor) -> Tensor:
        """Return masks bool [B, S, S], False where a photo is known not to show the person."""
        return self._unpacked(self._masks, rows)

    def face_masks(self, rows: Sequence[int] | Tensor) -> Tensor:
        """Return masks bool [B, S, S] of the faces, if `has_face_masks`."""
        return self._unpacked(self._faces, rows)

    def _unpacked(self, batches: list[NDArray[np.uint8]], rows: Sequence[int] | Tensor) -> Tensor:
        bits = np.unpackbits(_gather(batches, rows), axis=1, count=self.size**2)
        return torch.from_numpy(bits.reshape(-1, self.size, self.size).astype(bool))

    def true_coefficients(self, rows: Sequence[int] | Tensor) -> FaceCoefficients:
        """Return the coefficients that the photos were rendered with.

        Raises ValueError for photos that were not rendered.
        """
        columns = []
        for name in ("shape", "expression", "pose"):
            values = self._table[name].take(pa.array([int(row) for row in rows])).to_pylist()
            if any(value is None for value in values):
                raise ValueError(f"The photo store {self.key} holds photos without true {name}.")
            columns.append(torch.tensor(values, dtype=torch.float32))
        return FaceCoefficients(*columns)

    @classmethod
    def cached(
        cls,
        cache: Path,
        recipe: dict[str, Any],
        size: int,
        view_size: int,
        photos: Iterable[StoredPhoto],
        left_out: list[str],
    ) -> Self:
        """Open the store of this recipe in the cache, or make it from `photos`.

        `photos` is only iterated if nothing is cached, and may append to `left_out` meanwhile. An
        interrupted iteration leaves no store behind.
        """
        recipe = {**recipe, "format": FORMAT, "size": size, "view_size": view_size}
        key = content_key(recipe)
        folder = cache / "photos" / key[:24]
        with locked(folder) if not folder.exists() else nullcontext():
            if not folder.exists():  # another process may have made it meanwhile
                _make(
                    folder,
                    {
                        "key": key,
                        "format": FORMAT,
                        "size": size,
                        "view_size": view_size,
                        "recipe": recipe,
                    },
                    photos,
                    left_out,
                )
        return cls(folder)


def _make(
    folder: Path, about: dict[str, Any], photos: Iterable[StoredPhoto], left_out: list[str]
) -> None:
    """Write a store, which is renamed to `folder` when complete; one process at a time."""
    unfinished = folder.with_name(f"unfinished-{folder.name}")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed
    unfinished.mkdir()
    try:
        count = _write(unfinished / "photos.arrow", photos)
        about = {**about, "photos": count, "left_out": left_out}
        (unfinished / "about.json").write_text(json.dumps(about, indent=1), "utf-8")
        os.rename(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write(path: Path, photos: Iterable[StoredPhoto]) -> int:
    schema = pa.schema(
        {
            **dict.fromkeys(("identity", "name", "caption"), pa.string()),
            **dict.fromkeys(("image", "view", "person_mask", "face_mask"), pa.binary()),
            **dict.fromkeys(("shape", "expression", "pose"), pa.list_(pa.float32())),
            "flawed": pa.bool_(),
        }
    )
    count = 0
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for group in _groups(photos):
            rows = [_row(photo) for photo in group]
            writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))
            count += len(rows)
    return count


def _groups(photos: Iterable[StoredPhoto]) -> Iterator[list[StoredPhoto]]:
    group: list[StoredPhoto] = []
    for photo in photos:
        group.append(photo)
        if len(group) == _ROWS_PER_BATCH:
            yield group
            group = []
    if group:
        yield group


def _row(photo: StoredPhoto) -> dict[str, Any]:
    shape, expression, pose = photo.coefficients or (None, None, None)
    return {
        "identity": photo.identity,
        "name": photo.name,
        "caption": photo.caption,
        "image": photo.image.tobytes(),
        "view": None if photo.view is None else photo.view.tobytes(),
        "person_mask": np.packbits(photo.person_mask).tobytes(),
        "face_mask": None if photo.face_mask is None else np.packbits(photo.face_mask).tobytes(),
        "shape": shape,
        "expression": expression,
        "pose": pose,
        "flawed": photo.flawed,
    }


def _bytes(column: pa.Array) -> NDArray[np.uint8]:
    """View a column of equally long byte strings as an array [rows, bytes], without a copy."""
    _, offsets, data = column.buffers()
    start, stop = np.frombuffer(offsets, np.int32)[[0, len(column)]]
    return np.frombuffer(data, np.uint8)[start:stop].reshape(len(column), -1)


def _pixels(column: pa.Array, size: int) -> NDArray[np.uint8]:
    return _bytes(column).reshape(-1, size, size, 3)


def _gather(batches: list[NDArray[np.uint8]], rows: Sequence[int] | Tensor) -> NDArray[np.uint8]:
    places = [divmod(int(row), _ROWS_PER_BATCH) for row in rows]
    return np.stack([batches[batch][row] for batch, row in places])


def to_tensor(images: NDArray[np.uint8]) -> Tensor:
    """Convert photos uint8 [B, S, S, 3] to images [B, 3, S, S] in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
