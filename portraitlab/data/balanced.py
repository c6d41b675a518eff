"""An order of photos that shows every identity equally often, however many photos it has."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


class BalancedOrder:
    """The identity, and which of its photos, at each place of a training.

    An epoch shows each of I identities once, in a new order. An identity with n photos shows each
    of them once in n epochs, and again in the next n in another order. Places are counted over all
    epochs and ranks. Seed and place alone determine a photo: there is no state, so a training
    resumes at its next place.

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
        """Return the number of places in an epoch: the number of identities."""
        return len(self.counts)

    def at(self, places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return identities [B] and photos [B] in 0..counts-1 of places [B]."""
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
