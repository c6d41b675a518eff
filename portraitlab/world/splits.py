"""Which identities are used for what: identity seeds of each purpose, none shared.

The three recognisers share no training identity, so that neither judge is trained on what the
conditioning recogniser was. All else that only judges (a CLIP, a regressor) learns from `judge`.
The papers' methods train on `train` and are scored on identities that no model has seen. Settings
are chosen on `development`, tables are made on `test`.

What trains holds families as they come. What measures comes twice: people without a look-alike,
and families alone, whose members only details tell apart.
"""

from __future__ import annotations

from collections.abc import Sequence

from portraitlab.world.identity import family_of

LOOK_ALIKES = "_look_alikes"
"""Ending of the splits that hold families alone."""


def _measured(name: str, seeds: range) -> dict[str, Sequence[int]]:
    return {
        name: tuple(seed for seed in seeds if family_of(seed) is None),
        name + LOOK_ALIKES: tuple(seed for seed in seeds if family_of(seed) is not None),
    }


IDENTITIES: dict[str, Sequence[int]] = {
    "foundation": range(0, 100_000),
    "recogniser": range(100_000, 150_000),
    "judge": range(150_000, 175_000),
    "second_judge": range(175_000, 200_000),
    "train": range(200_000, 300_000),
    **_measured("development", range(300_000, 310_000)),
    **_measured("test", range(310_000, 320_000)),
    **_measured("foundation_check", range(320_000, 330_000)),
}
"""Seeds of the identities of each purpose; `foundation_check` measures the foundation itself."""
