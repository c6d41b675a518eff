"""Check every file in a folder of identity folders, without any model."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import tee
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from portraitlab.data.photo import UnusablePhoto, read_photo
from portraitlab.data.prepare.bar import progress_bar
from portraitlab.data.prepare.listing import (
    BadCaption,
    Problem,
    alike,
    caption_file,
    caption_of,
    check_root,
    identity_folders,
    list_identity,
    name_problem,
    no_photos,
    stray_files,
)
from portraitlab.data.prepare.reading import reading
from portraitlab.support.hashes import file_digest

_DIGEST = 32  # bytes of a sha256

LEAST = 2
"""Photos that an identity needs: a target and a reference."""


@dataclass(frozen=True)
class FolderReport:
    """The contents and problems of a folder of identity folders.

    photos: number of readable photos. captions: number of these with a caption. sidecars: number of
    files that are not read, by suffix. distribution: maps a number of usable photos to the number
    of identities with that many.
    """

    root: Path
    identities: int
    files: int
    photos: int
    captions: int
    sidecars: dict[str, int]
    distribution: dict[int, int]
    problems: list[Problem]

    def lines(self) -> Iterator[str]:
        """Yield the report as lines of text, the problems last."""
        yield f"{self.root}: {self.identities} identities, {self.files} files in them"
        yield f"photos: {self.photos} can be read, {self.captions} have a caption of their own"
        if self.sidecars:
            counts = (f"{number} {suffix}" for suffix, number in self.sidecars.items())
            yield f"other files, not read: {', '.join(counts)}"
        if self.distribution:
            each = sorted(Counter(self.distribution).elements())
            yield (
                f"photos of an identity: {each[0]} to {each[-1]}, median "
                f"{statistics.median(each):g}"
            )
            yield from (
                f"  {number:6} photos: {count} identities"
                for number, count in sorted(self.distribution.items())
            )
        yield f"problems: {len(self.problems)}"
        yield from map(str, self.problems)

    def content(self) -> dict[str, Any]:
        """Return the report as plain JSON content."""
        return {
            "root": str(self.root),
            "identities": self.identities,
            "files": self.files,
            "photos": self.photos,
            "captions": self.captions,
            "not_read": self.sidecars,
            "photos_per_identity": {str(n): c for n, c in sorted(self.distribution.items())},
            "problems": [
                {"kind": each.kind, "name": each.name, "problem": each.text}
                for each in self.problems
            ],
        }


@dataclass(frozen=True)
class _FileCheck:
    """The result of checking one file.

    digest: sha256 of its bytes; None if they cannot be read. reasons: problems of the photo and of
    its caption. usable: True if it is a photo. captioned: True if it has a caption as well.
    """

    digest: bytes | None
    reasons: tuple[str, ...]
    usable: bool
    captioned: bool


def validate(root: Path, workers: int) -> FolderReport:
    """Read every file of a folder with this many processes; 0 reads in this one.

    Raises ValueError if there is no such folder.
    """
    check_root(root)
    folders = identity_folders(root)
    problems = [*stray_files(root), *_name_problems("identity", "", folders)]
    # Keep numbers of each file, not objects, so that a million photos take 40 MB.
    sizes = np.zeros(len(folders), np.int64)
    digests, usable = bytearray(), bytearray()
    captions = 0
    sidecars: Counter[str] = Counter()
    nested = set()

    def photos() -> Iterator[Path]:
        for number, folder in enumerate(folders):
            listing = list_identity(root, folder)
            problems.extend(listing.problems)
            sidecars.update(path.suffix.lower() for path in listing.sidecars)
            if listing.nested:
                nested.add(folder)
            names = [path.name for path in listing.photos]
            problems.extend(_name_problems("photo", f"{folder}/", names))
            problems.extend(_sharing_captions(folder, listing.photos))
            sizes[number] = len(names)
            yield from listing.photos

    # Check all files in the reading processes.
    with reading(workers) as apply, progress_bar("Reading photos") as advance:
        paths, jobs = tee(photos())
        for path, checked in zip(paths, apply(_check, jobs), strict=True):
            name = f"{path.parent.name}/{path.name}"
            problems += [Problem("photo", name, reason) for reason in checked.reasons]
            digests += checked.digest or bytes(_DIGEST)
            usable.append(checked.usable)
            captions += checked.captioned
            advance(1)
    # Find files with the same bytes.
    starts = np.concatenate([[0], sizes.cumsum()])
    good = np.frombuffer(usable, bool).copy()
    first = first_of_each(np.frombuffer(digests, np.uint8).reshape(-1, _DIGEST), good)
    for row in np.flatnonzero(good & (first != np.arange(len(first)))):
        name, earlier = (_name(root, folders, starts, at) for at in (int(row), int(first[row])))
        problems.append(Problem("photo", name, f"is the same file as {earlier}"))
    # Count the usable photos of each identity.
    owner = np.repeat(np.arange(len(folders)), sizes)
    counted = good & (first == np.arange(len(first)))
    counts = np.bincount(owner[counted], minlength=len(folders))
    for folder, count in zip(folders, counts.tolist(), strict=True):
        if count < LEAST and folder not in nested:
            problems.append(Problem("identity", folder, too_few(count)))
    if not len(good) and not nested:
        problems.append(Problem("folder", str(root), no_photos(root)))
    return FolderReport(
        root=root,
        identities=len(folders),
        files=int(sizes.sum()),
        photos=int(good.sum()),
        captions=captions,
        sidecars=dict(sorted(sidecars.items())),
        distribution=dict(sorted(Counter(counts.tolist()).items())),
        problems=sorted(problems, key=lambda problem: (problem.name, problem.text)),
    )


def too_few(count: int) -> str:
    """Return the problem of an identity with too few photos."""
    return f"usable photos {count}, needed {LEAST} (a target and a reference)"


def first_of_each(digests: NDArray[np.uint8], usable: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return for each digest [P, 32] the first usable row of the same bytes, else its own [P]."""
    first = np.arange(len(digests))
    rows = np.flatnonzero(usable)
    whole = np.ascontiguousarray(digests[rows]).view(f"V{_DIGEST}")[:, 0]
    _, places, groups = np.unique(whole, return_index=True, return_inverse=True)
    first[rows] = rows[places[groups]]
    return first


def _check(path: Path) -> _FileCheck:
    """Check one photo and its caption, in a reading process."""
    reasons = []
    try:
        digest = bytes.fromhex(file_digest(path))
        read_photo(path)
    except OSError as error:
        return _FileCheck(None, (f"cannot be read: {error.strerror}",), False, False)
    except UnusablePhoto as error:
        reasons.append(str(error))
    usable = not reasons
    captioned = False
    try:
        captioned = caption_of(path) is not None and usable
    except (BadCaption, OSError) as error:
        reasons.append(str(error))
    return _FileCheck(digest, tuple(reasons), usable, captioned)


def _name_problems(kind: str, before: str, names: list[str]) -> Iterator[Problem]:
    for name in names:
        if (text := name_problem(name)) is not None:
            yield Problem(kind, before + name, text)
    for name, earlier in alike(names).items():
        yield Problem(kind, before + name, f"has the same name as {earlier} on many disks")


def _sharing_captions(folder: str, photos: list[Path]) -> Iterator[Problem]:
    first: dict[str, Path] = {}
    for photo in photos:
        earlier = first.setdefault(photo.stem, photo)
        if earlier is not photo and (caption := caption_file(photo)) is not None:
            text = f"shares its caption {caption.name} with {earlier.name}"
            yield Problem("photo", f"{folder}/{photo.name}", text)


def _name(root: Path, folders: list[str], starts: NDArray[np.int64], row: int) -> str:
    """Return `identity/file` of a row, by listing again: only duplicates need their names."""
    number = int(np.searchsorted(starts, row, side="right")) - 1
    photo = list_identity(root, folders[number]).photos[row - int(starts[number])]
    return f"{folders[number]}/{photo.name}"
