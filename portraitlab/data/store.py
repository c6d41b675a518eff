"""Write photos of a source to a cached store, or open the one that is cached."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from portraitlab.data.photos import Photos
from portraitlab.data.schema import columns_of, encoded
from portraitlab.data.shards import FORMAT, write_shard
from portraitlab.data.table import ShardTable
from portraitlab.support.files import DamagedFile
from portraitlab.support.hashes import content_key
from portraitlab.support.tensor_cache import cached

_ROWS = 256
"""Photos in a file, which bounds the memory that writing takes."""


def cached_photos(
    cache: Path,
    recipe: Mapping[str, Any],
    size: int,
    view_size: int,
    photos: Iterable[Mapping[str, Any]],
    left_out: Sequence[str] = (),
) -> Photos:
    """Open the store of a recipe in the cache, or make it from `photos`; a damaged one is remade.

    photos: values by the columns of portraitlab.data.schema, all with the same; the caption is its
    text. They are only iterated if the store is made, and may add lines to `left_out` meanwhile. An
    interrupted iteration leaves no store behind.
    """
    key = content_key({**recipe, "format": FORMAT, "size": size, "view_size": view_size})

    def make(folder: Path) -> None:
        numbers = {"": 0}  # of the captions, in the order of their first use
        rows = (_numbered(photo, numbers) for photo in photos)
        count = 0
        while group := list(islice(rows, _ROWS)):
            write_shard(folder / f"photos-{count // _ROWS:06}.arrow", [encoded(columns_of(group))])
            count += len(group)
        captions = pa.RecordBatch.from_pydict({"caption": pa.array([*numbers], pa.string())})
        # Last, as what marks the store as complete.
        write_shard(folder / "captions.arrow", [captions], photos=count, left_out=[*left_out])

    def read(folder: Path) -> Photos:
        captions = ShardTable([folder / "captions.arrow"]).check()
        table = ShardTable(sorted(folder.glob("photos-*.arrow"))).check()
        about = captions.shards[0].about
        if len(table) != about["photos"]:
            raise DamagedFile(f"{folder} has {len(table)} photos, not {about['photos']}")
        return Photos(table, captions, size, view_size, key, about["left_out"])

    return cached(cache / "photos" / key[:24], read, make)


def _numbered(photo: Mapping[str, Any], numbers: dict[str, int]) -> dict[str, Any]:
    """Replace a photo's caption by its number, a new one if it is new."""
    return {**photo, "caption": numbers.setdefault(photo["caption"], len(numbers))}
