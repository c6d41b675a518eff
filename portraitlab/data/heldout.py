"""The identities of a user's photos that are held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def divided(
    counts: Mapping[str, int], share: float, seed: int, targets: int
) -> tuple[list[int], list[int]]:
    """Return the photos of each identity to train on, and of each that is held out."""
    held = held_out(counts, share, seed, targets)
    return [counts[name] for name in counts if name not in held], [counts[name] for name in held]


def check_refs(
    train: Sequence[int], held: Sequence[int], refs: int, score_refs: int, targets: int, beside: int
) -> None:
    """Raise ValueError if nobody has the photos that training or scoring takes of a person.

    train, held: photos of each identity to train on, and of each that is held out. targets: of a
    scored identity, beside the references and one photo to judge by. beside: photos of a training
    sample beside the references. The error names the number of references that fits.
    """
    most, most_scored = max(train) - beside, max(held) - targets - 1
    if refs <= most and score_refs <= most_scored:
        return
    needs = (
        f"training needs a person with {refs + beside} photos, and the {len(train)} to train on "
        f"have {min(train)} to {max(train)}; scoring needs one with {targets + score_refs + 1} "
        f"(data.targets={targets}, {score_refs} references, 1 to judge by), and the {len(held)} "
        f"held out have {min(held)} to {max(held)}"
    )
    name, fits = "refs", min(most, most_scored)
    if refs <= most and score_refs != refs:
        name, fits = "score_refs", most_scored
    value = {"refs": refs, "score_refs": score_refs}[name]
    remedy = f"Choose {name}={fits}, or add photos." if fits >= 1 else "Add photos."
    raise ValueError(f"{name}={value} is too many for these photos: {needs}. {remedy}")
