"""No matting: the whole portrait is the person, background included."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from portraitlab.faces.matting.base import Matting


class NoMatting(Matting):
    """A matting that keeps all pixels; a photo's own transparency is still used."""

    fingerprint = ""

    def person(self, portrait: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return a mask [H, W] that is True everywhere."""
        return np.ones(portrait.shape[:2], bool)
