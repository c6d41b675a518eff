"""List a folder for a preparation: all of it at first, later the files added since."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from itertools import islice, tee
from pathlib import Path

import pyarrow as pa

from portraitlab.data.prepare.bar import Bar
from portraitlab.data.prepare.jobs import changed, inspect_file
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
from portraitlab.data.shards import write_shard
from portraitlab.support.lock import locked

_ROWS = 4096

_Row = tuple[str, str, int, bytes, str]


def check_folders(root: Path, out: Path) -> None:
    """Check that `root` contains photos and that `out` can be a store; nothing is written.

    Raises ValueError otherwise.
    """
    if not root.is_dir():
        raise ValueError(f"{root} is not a folder; give a folder of identity folders of photos.")
    if not any(list_identity(root, identity).photos for identity in identity_folders(root)):
        raise _no_photos(root)
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
        _check_shards(shards, plan, shard)
        problems: list[Problem] = []
        with closing(_new(root, plan, caption, apply, problems)) as new:
            if next(new, None) is None:
                break
        with locked(out):
            path = listing_file(out, plan.listings)
            if not path.exists():  # another process may have listed the same files
                with bar("Listing photos") as advance:
                    new = _new(root, plan, caption, apply, [])
                    write_shard(path, [*_batches(new, advance)])
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
                f"{path} is of a listing in {plan.out / 'plan'} that was deleted, and only that "
                "says which photo is in which row. Prepare into another folder."
            )


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
            yield identity, name, info.size, info.digest, info.caption or caption


def _batches(rows: Iterator[_Row], advance: Callable[[int], None]) -> Iterator[pa.RecordBatch]:
    while part := list(islice(rows, _ROWS)):
        columns = zip(*part, strict=True)
        arrays = [
            pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)
        ]
        yield pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)
        advance(len(part))
