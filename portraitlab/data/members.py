"""Photos of each identity as arrays, so that a million photos need no million objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Members:
    """The photos of I identities.

    names: names of the identities. counts [I]: photos of each. rows [P']: the rows of the first
    identity, then those of the second, and so on, each in the store's order.
    """

    names: Sequence[str]
    counts: NDArray[np.int64]
    rows: NDArray[np.int64]

    @property
    def starts(self) -> NDArray[np.int64]:
        """First position in `rows` of each identity [I]."""
        return self.counts.cumsum() - self.counts

    def of(self, number: int) -> NDArray[np.int64]:
        """Return the rows of one identity by its number."""
        start = self.starts[number]
        return self.rows[start : start + self.counts[number]]


class Owned(Protocol):
    """A store that knows the identity of each photo."""

    def owners(self) -> tuple[Sequence[str], NDArray[np.int64]]:
        """Return the identities' names and, for each photo [P], its identity's number."""
        ...


def members_of(store: Owned, identities: Sequence[str]) -> Members:
    """Collect the photos of some identities of a store, in the order of `identities`."""
    known, owner = store.owners()
    number = {name: place for place, name in enumerate(identities)}
    requested = np.array([number.get(name, -1) for name in known], dtype=np.int64)
    place = requested[owner]
    taken = np.flatnonzero(place >= 0)
    rows = taken[np.argsort(place[taken], kind="stable")]
    counts = np.bincount(place[taken], minlength=len(identities))
    return Members(identities, counts.astype(np.int64), rows.astype(np.int64))
