"""The end of a preparation, once all shards are there, whoever made them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from portraitlab.data.layout import caption_pieces, photo_pieces
from portraitlab.data.listing import Problem, identity_folders
from portraitlab.data.plan import Plan, problems_of_plan
from portraitlab.data.shards import is_whole, problems_of, read_shard, write_shard
from portraitlab.data.validate import LEAST, too_few
from portraitlab.runs.files import read_json, write_json


def finish(root: Path, out: Path, plan: Plan, shard: int, anew: bool) -> dict[str, Any] | None:
    """Write the index of identities, the problems and, last, the counts, which are returned.

    shard: rows of a file at most. anew: although it was finished before. None where a shard is not
    there yet.
    """
    photos, captions = photo_pieces(out, plan, shard), caption_pieces(out, plan, shard)
    if not all(is_whole(path) for path, _ in (*captions, *photos)):
        return None
    before = read_json(out / "finished.json")
    if before is not None and not anew:
        return before
    counts: dict[str, int] = {}
    for path, _ in photos:
        for run in read_shard(path)["identity"].value_counts():
            name = run["values"].as_py()
            counts[name] = counts.get(name, 0) + run["counts"].as_py()
    numbers = np.array([*counts.values()], np.int64)
    columns = {
        "identity": pa.array([*counts], pa.string()),
        "start": pa.array(numbers.cumsum() - numbers),
        "photos": pa.array(numbers),
    }
    write_shard(out / "identities.arrow", columns)
    problems = 0
    with (out / "problems.txt").open("w", encoding="utf-8") as file:
        for problem in _problems(root, out, [path for path, _ in photos], counts):
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


def _problems(
    root: Path, out: Path, photos: list[Path], counts: Mapping[str, int]
) -> Iterator[Problem]:
    yield from problems_of_plan(out)
    for path in photos:
        yield from problems_of(read_shard(path))
    for identity in identity_folders(root):
        if (count := counts.get(identity, 0)) < LEAST:
            yield Problem("identity", identity, too_few(count))
