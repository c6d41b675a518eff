"""The interface of mattings."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray


class Matting(ABC):
    """A model that separates a person from the background.

    fingerprint: hash of weights and settings, part of the key of cached photos; empty without
    matting.
    """

    fingerprint: str

    @abstractmethod
    def person(self, portrait: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Compute the mask [H, W] of a portrait uint8 [H, W, 3] RGB: True where the person is."""
