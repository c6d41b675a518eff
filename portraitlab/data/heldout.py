"""Sources of a user's photos, of whose identities a share is held out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from portraitlab.data.features import Frozen
from portraitlab.data.photo_set import PhotoSet
from portraitlab.data.source import PhotoSource
from portraitlab.data.targets import string_seed
from portraitlab.data.testset import MOST_REFERENCES
from portraitlab.faces.matting.base import Matting
from portraitlab.faces.matting.none import NoMatting
from portraitlab.support.checks import check_number


class HeldOutSource(PhotoSource):
    """Photos of a user; a share of the identities is held out to score on.

    test_share: that share, drawn with `split_seed` among the identities with enough photos for any
    number of references; if those are too few, those with the most photos follow. minimum_side:
    least edge of a portrait in pixels. matting: masks the person in a portrait; a photo's own
    transparency is applied as well. scoring: the settings of PhotoSource.
    """

    def __init__(
        self,
        test_share: float = 0.2,
        split_seed: int = 0,
        minimum_side: int = 32,
        matting: Matting | None = None,
        **scoring: Any,
    ) -> None:
        super().__init__(**scoring)
        check_number("data.test_share", test_share, above=0, below=1)
        self.test_share = test_share
        self.split_seed = split_seed
        self.minimum_side = minimum_side
        self.matting = matting or NoMatting()

    @abstractmethod
    def all_photos(self, frozen: Frozen) -> PhotoSet:
        """Return the photos of all identities that can be used."""

    @abstractmethod
    def photo_counts(self, frozen: Frozen) -> Mapping[str, int]:
        """Return the number of photos of each of these identities; nothing is encoded."""

    def train_photos(self, frozen: Frozen) -> PhotoSet:
        """Return photos of the identities that are not held out."""
        return replace(self.all_photos(frozen), identities=self._split(frozen)[0])

    def score_photos(self, frozen: Frozen) -> PhotoSet:
        """Return photos of the identities that are held out."""
        return replace(self.all_photos(frozen), identities=self._split(frozen)[1])

    def counts(self, frozen: Frozen) -> tuple[list[int], list[int]]:
        """Return the number of photos of each identity kept, and of each held out."""
        counts = self.photo_counts(frozen)
        kept, held = self._split(frozen)
        return [counts[name] for name in kept], [counts[name] for name in held]

    def _split(self, frozen: Frozen) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the names of the identities to train on, and of those held out, sorted."""
        counts = self.photo_counts(frozen)
        held = held_out(counts, self.test_share, self.split_seed, self.targets)
        return tuple(sorted(counts.keys() - set(held))), held


def held_out(counts: Mapping[str, int], share: float, seed: int, targets: int) -> tuple[str, ...]:
    """Return the names of the identities to score on, sorted; at least one, and never all.

    counts: photos of each identity. share, seed: see HeldOutSource. targets: photos of an identity
    beside its references and one to judge by.
    """
    enough = targets + MOST_REFERENCES + 1
    order = sorted(counts, key=lambda name: (-min(counts[name], enough), string_seed(seed, name)))
    number = min(max(round(share * len(order)), 1), len(order) - 1)
    return tuple(sorted(order[:number]))


def check_identities(root: object, number: int, remedy: str) -> None:
    """Raise ValueError for fewer than two identities, one to train on and one to score."""
    if number < 2:
        raise ValueError(
            f"data.root={root} has {number} identities with two usable photos and needs two, one "
            f"to train on and one to score{remedy}"
        )
