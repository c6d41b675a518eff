"""Splits of the identity seeds by purpose; no two splits share a seed.

The three recognisers share no training identity, so that neither judge is trained on people of the
conditioning recogniser. All other models that only judge (a CLIP, a regressor) are trained on
`judge`. The papers' methods are trained on `train` and scored on identities that no model has seen.
Settings are chosen on `development`, tables are made on `test`.

Training splits contain families at their natural rate. Measuring splits exist twice: people without
a look-alike, and families alone, whose members differ in details only.
"""

from __future__ import annotations

from collections.abc import Sequence

from portraitlab.world.identity import family_of

LOOK_ALIKES = "_look_alikes"
"""Suffix of the splits of families alone."""


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
