"""The plan of a preparation: its photos in order, and the shard that each is stored in."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from portraitlab.data.prepare.layout import caption_shard, listing_file, photo_shard
from portraitlab.data.prepare.validate import first_of_each
from portraitlab.data.shards import Shard

SCHEMA = pa.schema(
    {
        "identity": pa.string(),
        "name": pa.string(),
        "size": pa.int64(),
        "digest": pa.binary(32),
        "caption": pa.string(),
    }
)
"""Schema of a listing: the files that were new in the folder when it was listed."""

Piece = tuple[Path, range]
"""A piece of the work: the shard to write and the rows in it."""


class Plan:
    """The candidate photos of a folder by row, mapped from a store's listings.

    Later listings add later rows, captions and shards, so that those of earlier listings do not
    change.

    identity, name: strings, sorted by identity within a listing. digest: sha256 of the bytes.
    captions [C]: the distinct captions in the order of their first use. caption_number [P]: index
    into `captions`. first [P]: the first row with the same bytes, its own if there is no earlier.
    listings: number of listings. Memory: 12 bytes a row, the distinct captions and the identities.

    Raises ValueError if a listing was deleted or damaged.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.listings = len(list(listing_file(out, 0).parent.glob("[0-9]*.arrow")))
        tables = [_listed(listing_file(out, number)) for number in range(self.listings)]
        table = pa.concat_tables([SCHEMA.empty_table(), *tables])
        # Map the columns; only captions are collected in memory.
        self.identity, self.name, self.digest, self._size = (
            table[name] for name in ("identity", "name", "digest", "size")
        )
        captions = table["caption"].combine_chunks().dictionary_encode()
        self.captions = captions.dictionary
        self.caption_number: NDArray[np.int32] = captions.indices.to_numpy()
        # Find the first row of each distinct file.
        digests = np.frombuffer(
            b"".join(chunk.buffers()[1][: 32 * len(chunk)] for chunk in self.digest.chunks),
            np.uint8,
        )
        self.first = first_of_each(digests.reshape(-1, 32), np.ones(len(table), bool))
        self._ends = [0, *np.cumsum([len(each) for each in tables], dtype=np.int64).tolist()]
        self._places = self._runs()

    def __len__(self) -> int:
        return len(self.first)

    def file(self, row: int) -> str:
        """Return `identity/name` of a row."""
        return f"{self.identity[row]}/{self.name[row]}"

    @property
    def identities(self) -> Iterable[str]:
        """Names of all identities with a row."""
        return self._places.keys()

    def files_of(self, identity: str) -> dict[str, int]:
        """Return the names and sizes in bytes of one identity's files."""
        return {
            name: size
            for rows in self._places.get(identity, ())
            for name, size in zip(
                self.name[rows].to_pylist(), self._size[rows].to_pylist(), strict=True
            )
        }

    def photo_pieces(self, size: int) -> list[Piece]:
        """List all shards of photos, of at most `size` rows and of one listing each."""
        parts = _cut(self._ends, size)
        return [(photo_shard(self.out, number), rows) for number, rows in enumerate(parts)]

    def caption_pieces(self, size: int) -> list[Piece]:
        """List all shards of captions: row 0 is the empty prompt, row c + 1 is caption c."""
        known = [1 + int(self.caption_number[:end].max(initial=-1)) for end in self._ends[1:]]
        parts = _cut([0, *(1 + number for number in known)], size)
        return [(caption_shard(self.out, number), rows) for number, rows in enumerate(parts)]

    def _runs(self) -> dict[str, list[slice]]:
        """Find the rows of each identity: one slice for each listing that has any."""
        encoded = self.identity.combine_chunks().dictionary_encode()
        numbers, names = encoded.indices.to_numpy(), encoded.dictionary.to_pylist()
        new = np.flatnonzero(np.diff(numbers, prepend=-1))
        places: dict[str, list[slice]] = {}
        for start, end in zip(new.tolist(), [*new[1:].tolist(), len(numbers)], strict=False):
            places.setdefault(names[numbers[start]], []).append(slice(start, end))
        return places


def _listed(path: Path) -> pa.Table:
    try:
        shard = Shard(path)
        return pa.table({name: shard[name] for name in shard.types})
    except ValueError as error:
        raise ValueError(
            f"{path} was deleted or damaged, and only it says which photo is in which row. "
            "Prepare into another folder."
        ) from error


def _cut(ends: list[int], size: int) -> list[range]:
    return [
        range(start, min(start + size, after))
        for before, after in pairwise(ends)
        for start in range(before, after, size)
    ]
