"""Prepares a folder of photos for training at scale: everything frozen is computed once, in shards.

The store that comes of it is described in docs/data.md, and read by portraitlab/data/prepared.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
from torch import Tensor

from portraitlab.data.features import Frozen, describe_prompts
from portraitlab.data.photo import Photo, UnusablePhoto
from portraitlab.data.prepare.bar import Bar, progress_bar
from portraitlab.data.prepare.columns import (
    Precision,
    Taken,
    described_by,
    plain_columns,
    tensor_columns,
    told_by,
)
from portraitlab.data.prepare.finishing import finish
from portraitlab.data.prepare.jobs import Planned, read_planned
from portraitlab.data.prepare.layout import begin, taken_settings
from portraitlab.data.prepare.listing import Problem
from portraitlab.data.prepare.parallel import Apply, reading
from portraitlab.data.prepare.part import Part, claimed
from portraitlab.data.prepare.plan import Piece, Plan
from portraitlab.data.prepare.planning import check_folders, planned
from portraitlab.data.prepare.shards import is_whole, write_shard
from portraitlab.data.usable import usable_portrait
from portraitlab.faces.matting.base import Matting
from portraitlab.support.lock import locked


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
    part: Part = Part(),  # noqa: B008 - frozen
    bar: Bar = progress_bar,
) -> dict[str, Any] | None:
    """Prepare the photos of root/<identity>/ into `out`, or go on where it was stopped.

    Photos that came since are taken beside those that are there, which are not looked at again.

    workers: processes that read photos. overrides: what chose the frozen models, noted for whoever
    trains. part: of the shards, while other processes take the others. bar: shows how far it is.
    Returns the counts that `finished.json` holds; None where shards of other parts are not there
    yet, and whoever makes the last of them finishes.

    Raises ValueError where there are no photos, where `out` was begun with other settings or
    weights, holds something else or lies among the photos, where another process works on the same
    part, where a photo was changed or removed since it was listed, and where a number does not fit
    into half precision.
    """
    check_folders(root, out)
    with reading(workers) as apply, ThreadPoolExecutor(max(workers, 1)) as threads:
        with locked(out):
            settings = {**taken_settings(frozen, matting, how.minimum_side), **vars(how)}
            begin(out, settings, overrides)
        plan, problems = planned(root, out, how.caption, how.shard, apply, bar)
        with claimed(out, part):
            work = _Preparation(root, plan, frozen, matting, how, part, bar)
            work.captions()
            work.photos(apply, threads)
    with locked(out):
        return finish(root, out, how.shard, problems)


class _Preparation:
    """The work on one part, piece by piece; a piece whose file is whole is not done again."""

    def __init__(
        self,
        root: Path,
        plan: Plan,
        frozen: Frozen,
        matting: Matting,
        how: How,
        part: Part,
        bar: Bar,
    ) -> None:
        self.root, self.plan, self.frozen, self.matting, self.how = root, plan, frozen, matting, how
        self.size = frozen.backbone.image_size
        self._bar = bar
        self._captions = part.of(plan.caption_pieces(how.shard))
        self._photos = part.of(plan.photo_pieces(how.shard))

    def captions(self) -> None:
        """Text features of the empty prompt, row 0, and of each distinct caption."""
        with self._bar("Encoding captions", _rows(self._captions)) as advance:
            for path, rows in self._captions:
                if not is_whole(path):
                    prompts = [self._prompt(row) for row in rows]
                    described = [
                        describe_prompts(prompts[start : start + self.how.batch], self.frozen)
                        for start in range(0, len(prompts), self.how.batch)
                    ]
                    columns = {"caption": pa.array(prompts, pa.string())}
                    features = tensor_columns(described, self.how.precision)
                    write_shard(path, columns | features)
                advance(len(rows))

    def _prompt(self, row: int) -> str:
        return self.plan.captions[row - 1].as_py() if row else ""

    def photos(self, apply: Apply, threads: ThreadPoolExecutor) -> None:
        """All shards of photos that are not there yet, read ahead over their borders."""
        todo = [(path, rows) for path, rows in self._photos if not is_whole(path)]
        total = _rows(self._photos)
        read = apply(read_planned, self._jobs(rows for _, rows in todo))
        with self._bar("Preparing photos", total, total - _rows(todo)) as advance:
            for path, rows in todo:
                problems: list[Problem] = []
                described: list[dict[str, Tensor]] = []
                columns: list[dict[str, list[Any]]] = []
                taken: list[Taken] = []
                for row in rows:
                    one = self._take(row, read, problems)
                    taken += [] if one is None else [one]
                    if taken and (len(taken) == self.how.batch or row == rows[-1]):
                        described.append(described_by(self.frozen, taken))
                        columns.append(told_by(self.plan, taken, threads))
                        taken = []
                    advance(1)
                features = tensor_columns(described, self.how.precision)
                write_shard(path, plain_columns(columns) | features, problems)

    def _jobs(self, parts: Iterator[range]) -> Iterator[Planned]:
        for rows in parts:
            for row in rows:
                if self.plan.first[row] == row:
                    path = self.root / self.plan.file(row)
                    yield Planned(path, self.plan.digest[row].as_py())

    def _take(self, row: int, read: Iterator[Photo | str], problems: list[Problem]) -> Taken | None:
        name, first = self.plan.file(row), int(self.plan.first[row])
        try:
            if first != row:
                raise UnusablePhoto(f"is the same file as {self.plan.file(first)}")
            photo = next(read)
            if isinstance(photo, str):
                raise UnusablePhoto(photo)
            portrait = usable_portrait(
                photo, self.frozen.encoder, self.matting, self.how.minimum_side
            )
        except UnusablePhoto as error:
            problems.append(Problem("photo", name, str(error)))
            return None
        same = self.frozen.encoder.image_size == self.size
        return Taken(
            row=row,
            image=portrait.view if same else portrait.resized(self.size),
            view=None if same else portrait.view,
            mask=portrait.resized_mask(self.size),
            face=portrait.face,
        )


def _rows(pieces: Sequence[Piece]) -> int:
    return sum(len(rows) for _, rows in pieces)
