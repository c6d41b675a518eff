"""An order of photos that shows every identity equally often, however many photos it has."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


class BalancedOrder:
    """The identity, and which of its photos, at each place of a training.

    An epoch shows each of I identities once, in a new order. An identity with n photos shows each
    of them once in n epochs, and again in the next n in another order. A place is a function of
    seed, epoch, rank and position alone: there is no state, so a training resumes at its next
    place.

    counts [I]: photos of each identity, 1 or more. Raises ValueError if an identity has none.
    """

    def __init__(self, counts: NDArray[np.int64], seed: int) -> None:
        if not len(counts) or counts.min() < 1:
            raise ValueError(
                "An identity-balanced order needs identities with a photo each; leave out those "
                "that have none."
            )
        self.counts = counts
        self.seed = seed
        # Successive places share an epoch; a batch that crosses into the next one needs two.
        self._order = lru_cache(maxsize=2)(self._shuffled)

    def __len__(self) -> int:
        """Return the number of places in an epoch over all ranks: the number of identities."""
        return len(self.counts)

    def place(self, epoch: int, rank: int, position: int, world_size: int = 1) -> tuple[int, int]:
        """Return identity in 0..I-1 and photo in 0..counts-1 at a rank's position in an epoch.

        Rank r takes places r, r + world_size, …, so that all ranks together show the same photos
        as one process alone. Raises IndexError beyond the rank's share of the epoch.
        """
        place = position * world_size + rank
        if not (0 <= rank < world_size and position >= 0 and place < len(self)):
            raise IndexError(
                f"position {position} of rank {rank} of {world_size} is outside of an epoch of "
                f"{len(self)} places"
            )
        identities, photos = self.at(np.array([epoch * len(self) + place]))
        return int(identities[0]), int(photos[0])

    def at(self, places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return identities [B] and photos [B] of places [B] counted over all ranks and epochs."""
        epochs, within = np.divmod(places, len(self))
        identities = np.empty_like(places)
        for epoch in np.unique(epochs):
            here = epochs == epoch
            identities[here] = self._order(int(epoch))[within[here]]
        photos = [
            self._photo(int(epoch), int(identity))
            for epoch, identity in zip(epochs, identities, strict=True)
        ]
        return identities, np.array(photos, dtype=np.int64)

    def _shuffled(self, epoch: int) -> NDArray[np.int64]:
        return self._generator(0, epoch).permutation(len(self))

    def _photo(self, epoch: int, identity: int) -> int:
        turn, place = divmod(epoch, int(self.counts[identity]))
        generator = self._generator(1, turn, identity)
        return int(generator.permutation(self.counts[identity])[place])

    def _generator(self, *what: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *what])
