"""Finish a preparation once all shards are there, whichever process made them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from portraitlab.data.prepare.listing import Problem, identity_folders
from portraitlab.data.prepare.plan import Plan
from portraitlab.data.prepare.validate import LEAST, too_few
from portraitlab.data.shards import Shard, is_whole
from portraitlab.data.table import Table
from portraitlab.support.files import write_json


def finish(root: Path, out: Path, shard: int, listed: list[Problem]) -> dict[str, Any] | None:
    """Write the problems and, last, the counts; return the counts.

    shard: most rows of a file. listed: problems of files that have no row in the plan. Returns None
    if a shard is not there yet, including those of a listing that another process just made.
    """
    plan = Plan(out)
    photos, captions = plan.photo_pieces(shard), plan.caption_pieces(shard)
    if not all(is_whole(path) for path, _ in (*captions, *photos)):
        return None
    paths = [path for path, _ in photos]
    counts = Counter(Table(paths).all("identity"))
    problems = 0
    with (out / "problems.txt").open("w", encoding="utf-8") as file:
        for problem in _problems(root, listed, paths, counts):
            file.write(f"{problem}\n")
            problems += 1
    finished = {
        "photos": counts.total(),
        "identities": sum(count >= LEAST for count in counts.values()),
        "captions": len(plan.captions),
        "problems": problems,
        "photo_shards": len(photos),
        "caption_shards": len(captions),
    }
    write_json(out / "finished.json", finished)
    return finished


def _problems(
    root: Path, listed: list[Problem], photos: list[Path], counts: Mapping[str, int]
) -> Iterator[Problem]:
    yield from listed
    for path in photos:
        yield from (Problem(**problem) for problem in Shard(path).about["problems"])
    for identity in identity_folders(root):
        if (count := counts.get(identity, 0)) < LEAST:
            yield Problem("identity", identity, too_few(count))
