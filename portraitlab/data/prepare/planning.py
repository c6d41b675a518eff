"""The plan of a preparation: its photos in order, listed at first and as files are added since."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from itertools import islice, pairwise, tee
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from portraitlab.data.prepare.bar import Bar
from portraitlab.data.prepare.layout import shard_file
from portraitlab.data.prepare.listing import (
    Problem,
    check_root,
    identity_folders,
    list_identity,
    no_photos,
    not_text,
    stray_files,
)
from portraitlab.data.prepare.reading import Apply, changed, inspect_file
from portraitlab.data.prepare.validate import first_of_each
from portraitlab.data.shards import Shard, write_shard
from portraitlab.support.lock import locked

_ROWS = 4096

_Row = dict[str, Any]  # by the columns of SCHEMA

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
        self.listings = len(list(shard_file(out, "plan", 0).parent.glob("[0-9]*.arrow")))
        tables = [_listed(shard_file(out, "plan", number)) for number in range(self.listings)]
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
        return self._pieces("photos", self._ends, size)

    def caption_pieces(self, size: int) -> list[Piece]:
        """List all shards of captions: row 0 is the empty prompt, row c + 1 is caption c."""
        known = [1 + int(self.caption_number[:end].max(initial=-1)) for end in self._ends[1:]]
        return self._pieces("captions", [0, *(1 + number for number in known)], size)

    def _pieces(
        self, kind: Literal["photos", "captions"], ends: list[int], size: int
    ) -> list[Piece]:
        """Cut the rows between ends into shards of at most `size`."""
        parts = (
            range(start, min(start + size, after))
            for before, after in pairwise(ends)
            for start in range(before, after, size)
        )
        return [(shard_file(self.out, kind, number), rows) for number, rows in enumerate(parts)]

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
        return pa.table({name: shard.checked(name) for name in shard.columns})
    except ValueError as error:
        raise _lost(path) from error


def _lost(path: Path) -> ValueError:
    """Make the error for a listing that cannot be read."""
    return ValueError(
        f"{path} is missing or damaged. It records which photo is in which row, so the store "
        "cannot be continued; prepare into another folder."
    )


def check_folders(root: Path, out: Path) -> None:
    """Check that `root` contains photos and that `out` can be a store; nothing is written.

    Raises ValueError otherwise.
    """
    check_root(root)
    if not any(list_identity(root, identity).photos for identity in identity_folders(root)):
        raise ValueError(f"{root} {no_photos(root)}.")
    if out.resolve().is_relative_to(root.resolve()):
        raise ValueError(
            f"{out} is in {root}, whose folders are read as identities; prepare into a folder "
            "outside of it."
        )
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; give a new or an empty folder.")


def planned(
    root: Path, out: Path, caption: str, shard: int, apply: Apply, bar: Bar
) -> tuple[Plan, list[Problem]]:
    """Update a store's plan with the files now in the folder; also return their problems.

    caption: for photos without one of their own. shard: most rows of a file. Files in the plan are
    not opened; new ones are read once, for their digest, by the first process that lists them.

    Raises ValueError if there are no photos, if a listed photo is gone or has another size, and if
    there are shards of a lost listing.
    """
    while True:
        shards = list((out / "photos").glob("[0-9]*.arrow"))
        plan = Plan(out)  # after the shards: each was planned by a listing that existed before
        if not {path for path, _ in plan.photo_pieces(shard)}.issuperset(shards):
            raise _lost(out / "plan")
        problems: list[Problem] = []
        with closing(_new(root, plan, caption, apply, problems)) as new:
            if next(new, None) is None:
                break
        with locked(out):
            path = shard_file(out, "plan", plan.listings)
            if not path.exists():  # another process may have listed the same files
                with bar("Listing photos") as advance:
                    new = _new(root, plan, caption, apply, [])
                    write_shard(path, [*_batches(new, advance)])
    if not len(plan):
        raise ValueError(f"{root} {no_photos(root)}.")
    return plan, problems


def _new(
    root: Path, plan: Plan, caption: str, apply: Apply, problems: list[Problem]
) -> Generator[_Row, None, None]:
    """Yield rows of files that are not in the plan; add the problems of others."""
    problems.extend(stray_files(root))
    folders = identity_folders(root)
    for gone in set(plan.identities).difference(folders):
        raise changed(root / gone)

    # Walk the folder for files without a row; a listed file must still be there with its size.
    def unknown() -> Iterator[Path]:
        for identity in folders:
            if (text := not_text(identity)) is not None:
                problems.append(Problem("identity", identity, text))
                continue
            listing = list_identity(root, identity)
            problems.extend(listing.problems)
            known = plan.files_of(identity)
            for path in listing.photos:
                size = known.pop(path.name, None)
                if size is None:
                    yield path
                elif not path.is_file() or path.stat().st_size != size:
                    raise changed(path)
            for name in known:
                raise changed(root / identity / name)

    # Inspect them in the reading processes.
    paths, jobs = tee(unknown())
    for path, info in zip(paths, apply(inspect_file, jobs), strict=True):
        identity, name = path.parent.name, path.name
        if isinstance(info, str):
            problems.append(Problem("photo", f"{identity}/{name}", info))
        else:
            named = {"identity": identity, "name": name}
            yield {**named, **vars(info), "caption": info.caption or caption}


def _batches(rows: Iterator[_Row], advance: Callable[[int], None]) -> Iterator[pa.RecordBatch]:
    while part := list(islice(rows, _ROWS)):
        yield pa.RecordBatch.from_pylist(part, SCHEMA)
        advance(len(part))
