"""The identities of a user's photos that are held out."""

from __future__ import annotations

from collections.abc import Mapping

from portraitlab.data.testset import string_seed

MOST_REFERENCES = 6
"""The most references that any preset uses; more photos do not make a better test."""


def check_share(share: float) -> None:
    """Raise ValueError for a data.test_share outside of 0 to 1."""
    if not 0 < share < 1:
        raise ValueError(f"data.test_share={share} must lie between 0 and 1.")


def held_out(counts: Mapping[str, int], share: float, seed: int, targets: int) -> tuple[str, ...]:
    """Return the names of the identities to score on, sorted; at least one, and never all.

    counts: photos of each identity. share: share of the identities, drawn with `seed` among those
    with enough photos for `targets` and any number of references; if those are too few, those with
    the most photos follow.
    """
    enough = targets + MOST_REFERENCES + 1
    order = sorted(counts, key=lambda name: (-min(counts[name], enough), string_seed(seed, name)))
    number = min(max(round(share * len(order)), 1), len(order) - 1)
    return tuple(sorted(order[:number]))
