"""Which people of a user's photos are held out."""

from __future__ import annotations

from collections.abc import Mapping

from portraitlab.data.testset import string_seed

MOST_REFERENCES = 6
"""References that any preset conditions on at most; more photos do not make a better test."""


def check_share(share: float) -> None:
    """ValueError for a data.test_share outside of 0 to 1."""
    if not 0 < share < 1:
        raise ValueError(f"data.test_share={share} must lie between 0 and 1.")


def held_out(counts: Mapping[str, int], share: float, seed: int, targets: int) -> tuple[str, ...]:
    """Names of the identities to score on, in order; at least one is, and one is not.

    counts: photos of each identity. share: of the identities, drawn by `seed` among those with
    enough photos for `targets` and any number of references, or else those with the most.
    """
    enough = targets + MOST_REFERENCES + 1
    order = sorted(counts, key=lambda name: (-min(counts[name], enough), string_seed(seed, name)))
    number = min(max(round(share * len(order)), 1), len(order) - 1)
    return tuple(sorted(order[:number]))
