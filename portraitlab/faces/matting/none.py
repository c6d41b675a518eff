"""No matting: the whole portrait is the person, background included."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from portraitlab.faces.matting.base import Matting


class NoMatting(Matting):
    """Takes all for the person; a photo may still bring its own transparency."""

    fingerprint = ""

    def person(self, portrait: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """True everywhere, [H, W]."""
        return np.ones(portrait.shape[:2], bool)
