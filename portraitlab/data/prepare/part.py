"""Parts of one preparation, shared by processes of one or several machines."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import TypeVar

from portraitlab.support.lock import is_locked, locked

_Piece = TypeVar("_Piece")


@dataclass(frozen=True)
class StorePart:
    """The pieces number, number + count, number + 2 count, … of the work, counted from 1.

    Raises ValueError if the number is not in 1..count.
    """

    number: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise ValueError(
                f"--part={self}: the first number must be from 1 to the second, such as 2/8."
            )

    @classmethod
    def parse(cls, text: str) -> StorePart:
        """Parse NUMBER/COUNT, such as `2/8`. Raises ValueError for anything else."""
        match = re.fullmatch(r"(\d+)/(\d+)", text, re.ASCII)
        if match is None:
            raise ValueError(f"--part={text}: give NUMBER/COUNT, such as 2/8.")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def of(self, pieces: Sequence[_Piece]) -> Sequence[_Piece]:
        """Select this part's pieces.

        Parts of one count are disjoint and cover all pieces. Taking every count-th piece spreads
        what a stopped run left over the parts of the next.
        """
        return pieces[self.number - 1 :: self.count]

    def split(self, count: int) -> list[StorePart]:
        """Split this part into `count` parts."""
        return [
            StorePart(self.number + place * self.count, self.count * count)
            for place in range(count)
        ]

    def overlaps(self, other: StorePart) -> bool:
        """Return True if both parts may contain the same piece (Chinese remainder theorem)."""
        return (self.number - other.number) % gcd(self.count, other.count) == 0


@contextmanager
def claimed(out: Path, part: StorePart) -> Iterator[None]:
    """Lock a part of a store's work for this process.

    Raises ValueError if a living process works on pieces of it.
    """
    folder = out / ".parts"
    with locked(_place(folder, part), busy=_busy(out, part, part)):
        for path in folder.iterdir():
            match = re.fullmatch(r"\.(\d+)-of-(\d+)\.lock", path.name)
            other = part if match is None else StorePart(int(match[1]), int(match[2]))
            # Only test other locks: acquiring one would hold it for a moment.
            if other != part and part.overlaps(other) and is_locked(_place(folder, other)):
                raise ValueError(_busy(out, part, other))
        yield


def _place(folder: Path, part: StorePart) -> Path:
    return folder / f"{part.number}-of-{part.count}"


def _busy(out: Path, part: StorePart, other: StorePart) -> str:
    shared = "it" if other == part else f"pieces of it, as part {other},"
    return (
        f"Part {part} of {out} cannot be started: another process works on {shared} now. Wait for "
        "it, or give each process another --part with the same count."
    )
