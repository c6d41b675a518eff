"""Which identities are used for what: one range of identity seeds a purpose, none shared.

The two recognisers share no training identity, so that the judge is not trained on what the
conditioning recogniser was; the papers' methods train on `train` and are scored on identities
that no model has seen. Settings are chosen on `development`, tables are made on `test`.
"""

from __future__ import annotations

IDENTITIES: dict[str, range] = {
    "foundation": range(0, 100_000),
    "recogniser": range(100_000, 150_000),
    "judge": range(150_000, 200_000),
    "train": range(200_000, 300_000),
    "development": range(300_000, 310_000),
    "test": range(310_000, 320_000),
    "foundation_check": range(320_000, 330_000),
}
"""Seeds of the identities of each purpose; `foundation_check` measures the foundation itself."""
