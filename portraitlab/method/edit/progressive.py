"""Progressive inference: give a face another identity under its light (IC-Portrait, Sec. 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from portraitlab.method.edit.inpaint import Inpaint


class Progressive(Inpaint):
    """Add noise to the face and sample it again as the person, with less noise each time.

    Gaussian noise on the face, of the right amount, keeps light and shading and lets the identity
    change; "excessive or insufficient noise is not optimal". Each round starts from the result of
    the one before, under one condition: the style is the picture before the first. Several people
    are restored one after another, and earlier results are kept, so identities cannot mix
    (Sec. 4.4). The paper prints no schedule.

    strengths: share of the noise levels of each round, falling; 1 keeps nothing of the face. The
    other settings are Inpaint's. Raises ValueError for strengths that do not fall or are outside
    (0, 1].
    """

    in_turn = True

    def __init__(self, strengths: Sequence[float] = (0.7, 0.5, 0.3), **settings: Any) -> None:
        super().__init__(**settings)
        falling = all(before > after for before, after in pairwise(strengths))
        if not strengths or not falling or not 0 < strengths[-1] <= strengths[0] <= 1:
            raise ValueError(
                f"edit.strengths is {list(strengths)}; one or more falling shares of the noise "
                "levels are needed, above 0 and up to 1."
            )
        self.strengths = tuple(strengths)
