"""Finish a preparation once all shards are there, whichever process made them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from portraitlab.data.prepare.listing import Problem, identity_folders
from portraitlab.data.prepare.plan import Plan
from portraitlab.data.prepare.shards import is_whole, problems_of, read_shard, write_shard
from portraitlab.data.prepare.validate import LEAST, too_few
from portraitlab.support.files import write_json


def finish(root: Path, out: Path, shard: int, listed: list[Problem]) -> dict[str, Any] | None:
    """Write the index of identities, the problems and, last, the counts; return the counts.

    shard: most rows of a file. listed: problems of files that have no row in the plan. Returns None
    if a shard is not there yet, including those of a listing that another process just made.
    """
    plan = Plan(out)
    photos, captions = plan.photo_pieces(shard), plan.caption_pieces(shard)
    if not all(is_whole(path) for path, _ in (*captions, *photos)):
        return None
    paths = [path for path, _ in photos]
    counts = _write_index(out, paths)
    problems = 0
    with (out / "problems.txt").open("w", encoding="utf-8") as file:
        for problem in _problems(root, listed, paths, counts):
            file.write(f"{problem}\n")
            problems += 1
    finished = {
        "photos": sum(counts.values()),
        "identities": sum(count >= LEAST for count in counts.values()),
        "captions": len(plan.captions),
        "problems": problems,
        "photo_shards": len(photos),
        "caption_shards": len(captions),
    }
    write_json(out / "finished.json", finished)
    return finished


def _write_index(out: Path, photos: list[Path]) -> dict[str, int]:
    """Write the rows of each identity; return its number of photos.

    Identities, and the photos of each, are sorted by name, as if all had been listed at once: row
    numbers by this index do not depend on when a photo was added.
    """
    batches = [read_shard(path).select(["identity", "name"]) for path in photos]
    table = pa.Table.from_batches([batch.replace_schema_metadata() for batch in batches])
    rows = pc.sort_indices(table, [("identity", "ascending"), ("name", "ascending")])
    # Values come in the order of their first place, which is that of the names.
    runs = table["identity"].take(rows).value_counts()
    names, counts = runs.field("values"), runs.field("counts").to_numpy()
    starts = pa.array(np.concatenate([[0], counts.cumsum()]), pa.int32())
    lists = pa.ListArray.from_arrays(starts, rows.cast(pa.int64()))
    write_shard(out / "identities.arrow", {"identity": names, "rows": lists})
    return dict(zip(names.to_pylist(), counts.tolist(), strict=True))


def _problems(
    root: Path, listed: list[Problem], photos: list[Path], counts: Mapping[str, int]
) -> Iterator[Problem]:
    yield from listed
    for path in photos:
        yield from problems_of(read_shard(path))
    for identity in identity_folders(root):
        if (count := counts.get(identity, 0)) < LEAST:
            yield Problem("identity", identity, too_few(count))
