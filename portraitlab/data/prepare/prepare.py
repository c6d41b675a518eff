"""Prepare a folder of photos for training at scale: run all frozen models once, into shards.

docs/data.md describes the store; portraitlab/data/prepared.py reads it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa

from portraitlab.data.features import Frozen, describe_prompts
from portraitlab.data.photo import DecodedPhoto, UnusablePhoto
from portraitlab.data.prepare.bar import Bar, progress_bar
from portraitlab.data.prepare.columns import (
    PortraitRow,
    Precision,
    in_precision,
    photo_columns,
)
from portraitlab.data.prepare.layout import begin, store_settings
from portraitlab.data.prepare.listing import Problem, identity_folders
from portraitlab.data.prepare.part import StorePart, claimed
from portraitlab.data.prepare.planning import Piece, Plan, check_folders, planned
from portraitlab.data.prepare.reading import Apply, PlannedFile, read_planned, reading
from portraitlab.data.prepare.validate import LEAST, too_few
from portraitlab.data.schema import encoded
from portraitlab.data.shards import Shard, is_whole, write_shard
from portraitlab.data.table import ShardTable
from portraitlab.data.usable import usable_portrait
from portraitlab.faces.matting.base import Matting
from portraitlab.support.checks import check_choice, check_whole
from portraitlab.support.files import write_json
from portraitlab.support.lock import locked


@dataclass(frozen=True)
class PrepareOptions:
    """Options of a preparation.

    caption: for photos without one. minimum_side: least edge of a portrait in pixels. precision:
    of latents, the person's share and text features. shard: most photos, or captions, of one file,
    which bounds what a kill loses and what is in memory. batch: photos in a batch of the frozen
    models.

    Raises ValueError for numbers below 1 and an unknown precision.
    """

    caption: str
    minimum_side: int
    precision: Precision = "float16"
    shard: int = 256
    batch: int = 16

    def __post_init__(self) -> None:
        check_whole("--shard", self.shard)
        check_whole("--batch", self.batch)
        check_choice("--precision", self.precision, get_args(Precision))


def prepare(
    root: Path,
    out: Path,
    frozen: Frozen,
    matting: Matting,
    options: PrepareOptions,
    workers: int,
    overrides: Sequence[str] = (),
    part: StorePart = StorePart(),  # noqa: B008 - frozen
    bar: Bar = progress_bar,
) -> dict[str, Any] | None:
    """Prepare the photos of root/<identity>/ into `out`, or resume a preparation.

    Photos added since an earlier preparation are added to the store; stored photos are not read
    again.

    workers: processes that read photos. overrides: the overrides that chose the frozen models,
    recorded for training. part: the shards of this process, while others make the rest. bar: shows
    the progress. Returns the counts in `finished.json`, or None if shards of other parts are not
    there yet; the process that makes the last of them finishes the store.

    Raises ValueError if there are no photos, if `out` has other settings or weights, contains
    something else or is inside `root`, if another process works on the same part, if a photo was
    changed or removed since it was listed, and if a number does not fit into half precision.
    """
    # Create the store or check its settings, and list the photos.
    check_folders(root, out)
    with reading(workers) as apply, ThreadPoolExecutor(max(workers, 1)) as threads:
        with locked(out):
            settings = {**store_settings(frozen, matting, options.minimum_side), **vars(options)}
            begin(out, settings, overrides)
        plan, problems = planned(root, out, options.caption, options.shard, apply, bar)
        # Make the shards of this part.
        with claimed(out, part):
            work = _Preparation(root, plan, frozen, matting, options, part, bar)
            work.captions()
            work.photos(apply, threads)
    # Finish the store if no shard is missing.
    with locked(out):
        return _finish(root, out, options.shard, problems)


@dataclass(frozen=True)
class _Preparation:
    """The work on one part, shard by shard; complete shards are not made again."""

    root: Path
    plan: Plan
    frozen: Frozen
    matting: Matting
    options: PrepareOptions
    part: StorePart
    bar: Bar

    def captions(self) -> None:
        """Write text features of the empty prompt, row 0, and of each distinct caption."""
        pieces = self.part.of(self.plan.caption_pieces(self.options.shard))
        with self.bar("Encoding captions", _rows(pieces)) as advance:
            for path, rows in pieces:
                if not is_whole(path):
                    prompts = [self._prompt(row) for row in rows]
                    batches = [
                        self._described(prompts[start : start + self.options.batch])
                        for start in range(0, len(prompts), self.options.batch)
                    ]
                    write_shard(path, batches)
                advance(len(rows))

    def _prompt(self, row: int) -> str:
        return self.plan.captions[row - 1].as_py() if row else ""

    def _described(self, prompts: list[str]) -> pa.RecordBatch:
        features = in_precision(describe_prompts(prompts, self.frozen), self.options.precision)
        return encoded(features).append_column("caption", pa.array(prompts, pa.string()))

    def photos(self, apply: Apply, threads: ThreadPoolExecutor) -> None:
        """Write the shards of photos that are not there yet; reading runs ahead across shards."""
        pieces = self.part.of(self.plan.photo_pieces(self.options.shard))
        todo = [(path, rows) for path, rows in pieces if not is_whole(path)]
        total = _rows(pieces)
        read = apply(read_planned, self._jobs(rows for _, rows in todo))
        with self.bar("Preparing photos", total, total - _rows(todo)) as advance:
            for path, rows in todo:
                problems: list[Problem] = []
                batches: list[pa.RecordBatch] = []
                portraits: list[PortraitRow] = []
                for row in rows:
                    one = self._portrait(row, read, problems)
                    portraits += [] if one is None else [one]
                    if portraits and (len(portraits) == self.options.batch or row == rows[-1]):
                        precision = self.options.precision
                        batches.append(
                            photo_columns(self.frozen, self.plan, portraits, precision, threads)
                        )
                        portraits = []
                    advance(1)
                write_shard(path, batches, problems=[asdict(problem) for problem in problems])

    def _jobs(self, parts: Iterator[range]) -> Iterator[PlannedFile]:
        for rows in parts:
            for row in rows:
                if self.plan.first[row] == row:
                    path = self.root / self.plan.file(row)
                    yield PlannedFile(path, self.plan.digest[row].as_py())

    def _portrait(
        self, row: int, read: Iterator[DecodedPhoto | str], problems: list[Problem]
    ) -> PortraitRow | None:
        """Cut the portrait of a row's photo; add a problem and return None if that fails."""
        name, first = self.plan.file(row), int(self.plan.first[row])
        try:
            if first != row:
                raise UnusablePhoto(f"is the same file as {self.plan.file(first)}")
            photo = next(read)
            if isinstance(photo, str):
                raise UnusablePhoto(photo)
            portrait = usable_portrait(
                photo, self.frozen.encoder, self.matting, self.options.minimum_side
            )
        except UnusablePhoto as error:
            problems.append(Problem("photo", name, str(error)))
            return None
        return PortraitRow(row, portrait.columns(self.frozen.backbone.image_size), portrait.face)


def _rows(pieces: Sequence[Piece]) -> int:
    return sum(len(rows) for _, rows in pieces)


def _finish(root: Path, out: Path, shard: int, listed: list[Problem]) -> dict[str, Any] | None:
    """Write the problems and, last, the counts; return the counts.

    shard: most rows of a file. listed: problems of files that have no row in the plan. Returns None
    if a shard is not there yet, including those of a listing that another process just made.
    """
    plan = Plan(out)
    photos, captions = plan.photo_pieces(shard), plan.caption_pieces(shard)
    if not all(is_whole(path) for path, _ in (*captions, *photos)):
        return None
    paths = [path for path, _ in photos]
    counts = Counter(ShardTable(paths).all("identity"))
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
    write_json(out / "finished.json", finished, summed=True)
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
