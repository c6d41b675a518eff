"""Prepares a folder of photos for training at scale: everything frozen is computed once, in shards.

The store that comes of it is described in docs/data.md, and read by portraitlab/data/prepared.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
from torch import Tensor

from portraitlab.data.bar import progress_bar
from portraitlab.data.columns import (
    Precision,
    Taken,
    described_by,
    plain_columns,
    tensor_columns,
    told_by,
)
from portraitlab.data.features import Frozen, describe_prompts
from portraitlab.data.jobs import Planned, read_planned
from portraitlab.data.layout import begin, caption_shard, frozen_settings, photo_shard
from portraitlab.data.listing import Problem, identity_folders
from portraitlab.data.parallel import Apply, reading
from portraitlab.data.photo import Photo, UnusablePhoto
from portraitlab.data.plan import Plan, write_plan
from portraitlab.data.shards import Journal, read_shard, write_shard
from portraitlab.data.usable import usable_portrait
from portraitlab.data.validate import LEAST, too_few
from portraitlab.fingerprint import content_key
from portraitlab.matting.base import Matting
from portraitlab.runs.files import read_json, write_json
from portraitlab.runs.lock import locked


@dataclass(frozen=True)
class How:
    """How photos are taken, and how they are stored.

    caption: of photos without one. minimum_side: edge in pixels below which a portrait is too
    small. precision: of latents, the person's share and text features. shard: photos, or captions,
    of one file at most, which is what a kill loses and what is held in memory. batch: photos that
    the frozen models see at once.

    Raises ValueError for numbers below 1 and an unknown precision.
    """

    caption: str
    minimum_side: int
    precision: Precision = "float16"
    shard: int = 256
    batch: int = 16

    def __post_init__(self) -> None:
        for name, value in (("shard", self.shard), ("batch", self.batch)):
            if value < 1:
                raise ValueError(f"--{name}={value} must be at least 1.")
        if self.precision not in get_args(Precision):
            raise ValueError(
                f"--precision={self.precision}: choose {' or '.join(get_args(Precision))}."
            )


def prepare(
    root: Path,
    out: Path,
    frozen: Frozen,
    matting: Matting,
    how: How,
    workers: int,
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """Prepare the photos of root/<identity>/ into `out`, or go on where it was stopped.

    workers: processes that read photos. overrides: what chose the frozen models, noted for whoever
    trains. Returns the counts that `finished.json` holds.

    Raises ValueError where there are no photos, where `out` was begun with other settings, weights
    or people, or holds something else, where a photo was changed or removed since the plan was
    made, and where a number does not fit into half precision.
    """
    if not root.is_dir():
        raise ValueError(f"{root} is no folder; give a folder of identity folders of photos.")
    with locked(out):
        settings = _settings(root, frozen, matting, how)
        begin(out, settings, overrides)
        finished = read_json(out / "finished.json")
        work = _Preparation(root, out, frozen, matting, how)
        with reading(workers) as apply, ThreadPoolExecutor(max(workers, 1)) as threads:
            work.plan(apply)
            done = work.captions() + work.photos(apply, threads)
        return work.finish() if done or finished is None else finished


def _settings(root: Path, frozen: Frozen, matting: Matting, how: How) -> dict[str, Any]:
    people = content_key([ascii(name) for name in identity_folders(root)])
    return {
        **frozen_settings(frozen),
        "matting": matting.fingerprint,
        **vars(how),
        "identity folders": people,
    }


class _Preparation:
    """The work on one folder, piece by piece; a piece that the journal names is not done again."""

    def __init__(self, root: Path, out: Path, frozen: Frozen, matting: Matting, how: How) -> None:
        self.root, self.out, self.frozen, self.matting, self.how = root, out, frozen, matting, how
        self.size, self.view_size = frozen.backbone.image_size, frozen.encoder.image_size
        self.journal = Journal(out / "journal.jsonl")

    def plan(self, apply: Apply) -> None:
        """Read the plan, made before where it was not yet."""
        path = self.out / "plan.arrow"
        if self.journal.rows("plan", path) is None:
            if self.journal.knows("plan"):
                raise ValueError(
                    f"{path} was deleted or damaged, and nothing else says which photo stands "
                    "where. Prepare into another folder."
                )
            rows, problems = write_plan(path, self.root, self.how.caption, apply)
            if not rows:
                raise ValueError(
                    f"{self.root} holds no photos in identity folders; "
                    f"put them as {self.root}/<identity>/<photo>."
                )
            self.journal.finish("plan", rows, path, problems)
        self.planned = Plan(path)

    def captions(self) -> int:
        """Text features of the empty prompt, row 0, and of each distinct caption.

        Returns how many shards had to be made.
        """
        made, count = 0, 1 + len(self.planned.captions)
        with progress_bar("Encoding captions", count) as advance:
            for number, rows in enumerate(_parts(count, self.how.shard)):
                path = caption_shard(self.out, number)
                if self.journal.rows(f"captions {number}", path) is None:
                    prompts = [self._prompt(row) for row in rows]
                    described = [
                        describe_prompts(prompts[start : start + self.how.batch], self.frozen)
                        for start in range(0, len(prompts), self.how.batch)
                    ]
                    columns = {"caption": pa.array(prompts, pa.string())}
                    features = tensor_columns(described, self.how.precision)
                    write_shard(path, columns | features)
                    self.journal.finish(f"captions {number}", len(rows), path, [])
                    made += 1
                advance(len(rows))
        return made

    def _prompt(self, row: int) -> str:
        return self.planned.captions[row - 1].as_py() if row else ""

    def photos(self, apply: Apply, threads: ThreadPoolExecutor) -> int:
        """All shards of photos that are not there yet, read ahead over their borders.

        Returns how many those are.
        """
        shards = list(enumerate(_parts(len(self.planned), self.how.shard)))
        todo = [
            (number, rows)
            for number, rows in shards
            if self.journal.rows(f"photos {number}", photo_shard(self.out, number)) is None
        ]
        done = len(self.planned) - sum(len(rows) for _, rows in todo)
        read = apply(read_planned, self._jobs(rows for _, rows in todo))
        with progress_bar("Preparing photos", len(self.planned), done) as advance:
            for number, rows in todo:
                problems: list[Problem] = []
                described: list[dict[str, Tensor]] = []
                columns: list[dict[str, list[Any]]] = []
                taken: list[Taken] = []
                for row in rows:
                    one = self._take(row, read, problems)
                    taken += [] if one is None else [one]
                    if taken and (len(taken) == self.how.batch or row == rows[-1]):
                        described.append(described_by(self.frozen, taken))
                        columns.append(told_by(self.planned, taken, threads))
                        taken = []
                    advance(1)
                self._write(number, columns, described, problems)
        return len(todo)

    def _jobs(self, parts: Iterator[range]) -> Iterator[Planned]:
        for rows in parts:
            for row in rows:
                if self.planned.first[row] == row:
                    path = self.root / self.planned.file(row)
                    yield Planned(path, self.planned.digest[row].as_py())

    def _take(self, row: int, read: Iterator[Photo | str], problems: list[Problem]) -> Taken | None:
        name, first = self.planned.file(row), int(self.planned.first[row])
        try:
            if first != row:
                raise UnusablePhoto(f"is the same file as {self.planned.file(first)}")
            photo = next(read)
            if isinstance(photo, str):
                raise UnusablePhoto(photo)
            portrait = usable_portrait(
                photo, self.frozen.encoder, self.matting, self.how.minimum_side
            )
        except UnusablePhoto as error:
            problems.append(Problem("photo", name, str(error)))
            return None
        return Taken(
            row=row,
            image=portrait.resized(self.size),
            view=None if self.view_size == self.size else portrait.resized(self.view_size),
            mask=portrait.resized_mask(self.size),
        )

    def _write(
        self,
        number: int,
        columns: list[dict[str, list[Any]]],
        described: list[dict[str, Tensor]],
        problems: list[Problem],
    ) -> None:
        path = photo_shard(self.out, number)
        rows = sum(len(part["name"]) for part in columns)
        if rows:
            features = tensor_columns(described, self.how.precision)
            write_shard(path, plain_columns(columns) | features)
        self.journal.finish(f"photos {number}", rows, path, problems)

    def finish(self) -> dict[str, Any]:
        """Write the index of identities, the problems and, last, the counts."""
        names: list[str] = []
        counts: list[int] = []
        for number in range(len(_parts(len(self.planned), self.how.shard))):
            path = photo_shard(self.out, number)
            if self.journal.rows(f"photos {number}", path):
                for run in read_shard(path)["identity"].value_counts():
                    if names and names[-1] == run["values"].as_py():
                        counts[-1] += run["counts"].as_py()
                    else:
                        names.append(run["values"].as_py())
                        counts.append(run["counts"].as_py())
        photos = np.array(counts, np.int64)
        columns = {
            "identity": pa.array(names, pa.string()),
            "start": pa.array(photos.cumsum() - photos),
            "photos": pa.array(photos),
        }
        write_shard(self.out / "identities.arrow", columns)
        problems = self._write_problems(dict(zip(names, counts, strict=True)))
        captions = 1 + len(self.planned.captions)
        finished = {
            "photos": sum(counts),
            "identities": sum(count >= LEAST for count in counts),
            "captions": captions - 1,
            "problems": problems,
            "photo_shards": len(_parts(len(self.planned), self.how.shard)),
            "caption_shards": len(_parts(captions, self.how.shard)),
        }
        write_json(self.out / "finished.json", finished)
        return finished

    def _write_problems(self, counts: Mapping[str, int]) -> int:
        """Write a line for each problem; how many there are."""
        written = 0
        path = self.out / "problems.txt"
        with path.open("w", encoding="utf-8") as file:
            for problem in self.journal.problems():
                file.write(f"{problem}\n")
                written += 1
            for identity in identity_folders(self.root):
                if (count := counts.get(identity, 0)) < LEAST:
                    file.write(f"{Problem('identity', identity, too_few(count))}\n")
                    written += 1
        return written


def _parts(count: int, size: int) -> list[range]:
    return [range(start, min(start + size, count)) for start in range(0, count, size)]
