"""Traits: a person's looks in one photo as numbers, without pose and expression.

They are all that the renderer draws of a person; a description in words contains far less. Only the
foundation is trained on traits; methods are given photos.
"""

from __future__ import annotations

import numpy as np

from portraitlab.world.appearance import wears_makeup, worn_beard, worn_style
from portraitlab.world.identity import BEARDS, HAIR_STYLES, SHAPE_SIZE, Identity
from portraitlab.world.mesh import Array
from portraitlab.world.settings import PhotoSettings

TRAITS_SIZE = 43 + SHAPE_SIZE


def traits(identity: Identity, settings: PhotoSettings) -> Array:
    """Compute traits [TRAITS_SIZE], each of about unit deviation.

    Haircut, beard and makeup are those of the photo.
    """
    style = [2.0 * (worn_style(identity, settings) == name) for name in HAIR_STYLES]
    beard = [2.0 * (worn_beard(identity, settings) == name) for name in BEARDS]
    brows = (
        (identity.brow_thickness - 0.042) * 70,
        (identity.brow_arch - 0.025) * 50,
        identity.brow_tilt * 8,
        identity.brow_skew * 70,
        (identity.brow_darkness - 0.7) * 5,
    )
    age = (identity.freckles * 2, identity.wrinkles * 3 - 1, identity.shadows * 5 - 1.5)
    marks = (len(identity.moles) - 1, len(identity.birthmarks), len(identity.scars))
    return np.concatenate(
        [
            (identity.skin - 0.55) / 0.25, [identity.blush * 4 - 1], (identity.hair - 0.35) / 0.25,
            style, [identity.parting * 1.7, (identity.hairline - 0.62) * 14], brows,
            (identity.iris - 0.3) / 0.2, [(identity.iris_size - 0.07) * 140],
            (identity.lips - 0.5) / 0.2, [2.0 * wears_makeup(identity, settings)],
            [identity.eyelid * 3 - 1.5], age, beard, [identity.beard_density * 6 - 4.6],
            identity.shape, marks,
        ]
    ).astype(np.float32)  # fmt: skip
