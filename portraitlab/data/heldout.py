"""The identities of a user's photos that are held out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from portraitlab.data.photo_set import PhotoSet
from portraitlab.data.testset import string_seed

MOST_REFERENCES = 6
"""The most references that any preset uses; more photos do not make a better test."""


def check_share(share: float) -> None:
    """Raise ValueError for a data.test_share outside of 0 to 1."""
    if not 0 < share < 1:
        raise ValueError(f"data.test_share={share} must lie between 0 and 1.")


def split(photos: PhotoSet, share: float, seed: int, targets: int) -> tuple[PhotoSet, PhotoSet]:
    """Divide photos into those to train on and those of held-out identities, to score on."""
    members = photos.members()
    counts = dict(zip(members.names, members.counts.tolist(), strict=True))
    held = held_out(counts, share, seed, targets)
    scored = set(held)
    kept = tuple(name for name in photos.identities if name not in scored)
    return replace(photos, identities=kept), replace(photos, identities=held)


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
