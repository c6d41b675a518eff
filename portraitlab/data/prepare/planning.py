"""Lists a folder for a preparation: all of it at first, and later what came since."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from itertools import islice, tee
from pathlib import Path

import pyarrow as pa

from portraitlab.data.prepare.bar import Bar
from portraitlab.data.prepare.jobs import changed, look
from portraitlab.data.prepare.layout import listing_file
from portraitlab.data.prepare.listing import (
    NO_PHOTOS,
    Problem,
    identity_folders,
    list_identity,
    not_text,
    stray_files,
)
from portraitlab.data.prepare.parallel import Apply
from portraitlab.data.prepare.plan import SCHEMA, Plan
from portraitlab.data.prepare.shards import write_arrow
from portraitlab.support.lock import locked

_ROWS = 4096

_Row = tuple[str, str, int, bytes, str]


def check_folders(root: Path, out: Path) -> None:
    """Raises ValueError where `root` holds nothing to prepare, or nothing can be prepared to `out`.

    Nothing is written for it.
    """
    if not root.is_dir():
        raise ValueError(f"{root} is no folder; give a folder of identity folders of photos.")
    if not any(list_identity(root, identity).photos for identity in identity_folders(root)):
        raise _no_photos(root)
    if out.resolve().is_relative_to(root.resolve()):
        raise ValueError(
            f"{out} lies in {root}, whose folders are read as people's; prepare into a folder "
            "outside of it."
        )
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; give a new or an empty folder.")


def planned(
    root: Path, out: Path, caption: str, shard: int, apply: Apply, bar: Bar
) -> tuple[Plan, list[Problem]]:
    """The plan of a store with all that is in the folder now, and what of it stands in no row.

    caption: of photos without one of their own. shard: rows of a file at most. Files that the plan
    knows are not opened; new ones are read once, for their digest, by whoever comes first.

    Raises ValueError where there are no photos, where a planned one is gone or has another size,
    and where shards are there that a lost listing planned.
    """
    while True:
        shards = list((out / "photos").glob("[0-9]*.arrow"))
        plan = Plan(out)  # after them: whoever made one of them knew a listing of it
        _check_shards(shards, plan, shard)
        problems: list[Problem] = []
        with closing(_new(root, plan, caption, apply, problems)) as new:
            if next(new, None) is None:
                break
        with locked(out):
            path = listing_file(out, plan.listings)
            if not path.exists():  # another process may have listed the same meanwhile
                with bar("Listing photos") as advance:
                    new = _new(root, plan, caption, apply, [])
                    write_arrow(path, SCHEMA, _batches(new, advance))
    if not len(plan):
        raise _no_photos(root)
    return plan, problems


def _no_photos(root: Path) -> ValueError:
    return ValueError(f"{root} {NO_PHOTOS}.")


def _check_shards(shards: list[Path], plan: Plan, size: int) -> None:
    known = {path for path, _ in plan.photo_pieces(size)}
    for path in shards:
        if path not in known:
            raise ValueError(
                f"{path} is of a listing in {plan.out / 'plan'} that was deleted, and nothing else "
                "says which photo stands where. Prepare into another folder."
            )


def _new(
    root: Path, plan: Plan, caption: str, apply: Apply, problems: list[Problem]
) -> Generator[_Row, None, None]:
    """Rows of the files that the plan does not know; what is in no row is added to `problems`."""
    problems.extend(stray_files(root))
    folders = identity_folders(root)
    for gone in set(plan.identities).difference(folders):
        raise changed(root / gone)

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

    paths, jobs = tee(unknown())
    for path, seen in zip(paths, apply(look, jobs), strict=True):
        identity, name = path.parent.name, path.name
        if isinstance(seen, str):
            problems.append(Problem("photo", f"{identity}/{name}", seen))
        else:
            yield identity, name, seen.size, seen.digest, seen.caption or caption


def _batches(rows: Iterator[_Row], advance: Callable[[int], None]) -> Iterator[pa.RecordBatch]:
    while part := list(islice(rows, _ROWS)):
        columns = zip(*part, strict=True)
        arrays = [
            pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)
        ]
        yield pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)
        advance(len(part))
