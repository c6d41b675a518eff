"""Which photos a preparation takes, in which order, settled before the first of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain, islice, tee
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from portraitlab.data.bar import Bar
from portraitlab.data.jobs import look
from portraitlab.data.listing import (
    Problem,
    identity_folders,
    list_identity,
    not_text,
    stray_files,
)
from portraitlab.data.parallel import Apply
from portraitlab.data.shards import is_whole, read_arrow, write_arrow
from portraitlab.data.validate import first_of_each
from portraitlab.runs.files import read_json, write_json

_SCHEMA = pa.schema(
    {
        "identity": pa.string(),
        "name": pa.string(),
        "digest": pa.binary(32),
        "caption": pa.string(),
    }
)
_ROWS = 4096


class Plan:
    """The files of a folder that may be photos, by row, mapped from disk.

    identity, name: strings, identity after identity. digest: sha256 of the bytes. caption_number
    [P]: of each in `captions`. captions [C]: the distinct ones, as they first come. first [P]: the
    first row of the same bytes, its own where there is no earlier. Held in memory are 12 bytes a
    row and the distinct captions.
    """

    def __init__(self, path: Path) -> None:
        table = read_arrow(path)
        self.identity, self.name, self.digest = (
            table[name] for name in ("identity", "name", "digest")
        )
        captions = table["caption"].combine_chunks().dictionary_encode()
        self.captions = captions.dictionary
        self.caption_number: NDArray[np.int32] = captions.indices.to_numpy()
        digests = np.frombuffer(
            b"".join(chunk.buffers()[1][: 32 * len(chunk)] for chunk in self.digest.chunks),
            np.uint8,
        )
        self.first = first_of_each(digests.reshape(-1, 32), np.ones(len(table), bool))

    def __len__(self) -> int:
        return len(self.first)

    def file(self, row: int) -> str:
        """`identity/name` of a row."""
        return f"{self.identity[row]}/{self.name[row]}"


def planned(root: Path, out: Path, caption: str, apply: Apply, bar: Bar) -> Plan:
    """The plan of a store, made before where it was not yet; no other process does so meanwhile.

    caption: of photos without one of their own. Raises ValueError where there are no photos, and
    where the plan of a store with shards is gone.
    """
    path = out / "plan.arrow"
    if not is_whole(path):
        if path.exists() or (out / "photos").exists():
            raise ValueError(
                f"{path} was deleted or damaged, and nothing else says which photo stands "
                "where. Prepare into another folder."
            )
        _write_plan(path, root, caption, apply, bar)
    return Plan(path)


def problems_of_plan(out: Path) -> list[Problem]:
    """What of the folder stands in no row of a store's plan."""
    said = read_json(_beside(out / "plan.arrow"), ["problems"])
    assert said is not None, "written before the plan"
    return [Problem(**each) for each in said["problems"]]


def _write_plan(path: Path, root: Path, caption: str, apply: Apply, bar: Bar) -> None:
    """Every file is read once, for its digest."""
    problems = [*stray_files(root)]

    def photos() -> Iterator[Path]:
        for identity in identity_folders(root):
            if (text := not_text(identity)) is not None:
                problems.append(Problem("identity", identity, text))
                continue
            listing = list_identity(root, identity)
            problems.extend(listing.problems)
            yield from listing.photos

    def rows() -> Iterator[tuple[str, str, bytes, str]]:
        paths, jobs = tee(photos())
        with bar("Listing photos") as advance:
            for path, seen in zip(paths, apply(look, jobs), strict=True):
                advance(1)
                identity, name = path.parent.name, path.name
                if isinstance(seen, str):
                    problems.append(Problem("photo", f"{identity}/{name}", seen))
                else:
                    yield identity, name, seen.digest, seen.caption or caption

    found = rows()
    first = next(found, None)
    if first is None:
        raise ValueError(
            f"{root} holds no photos in identity folders; put them as {root}/<identity>/<photo>."
        )

    def batches() -> Iterator[pa.RecordBatch]:
        left = chain([first], found)
        while part := list(islice(left, _ROWS)):
            columns = zip(*part, strict=True)
            arrays = [
                pa.array(values, field.type) for values, field in zip(columns, _SCHEMA, strict=True)
            ]
            yield pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA)
        # Before the plan gets its name, and so never missing beside one.
        write_json(_beside(path), {"problems": [asdict(problem) for problem in problems]})

    write_arrow(path, _SCHEMA, batches())


def _beside(path: Path) -> Path:
    return path.with_suffix(".json")
