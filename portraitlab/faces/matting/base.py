"""What every matting offers."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray


class Matting(ABC):
    """Tells a person from what is behind.

    fingerprint: hash of weights and settings, under which photos are cached; empty where nothing
    is told apart.
    """

    fingerprint: str

    @abstractmethod
    def person(self, portrait: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Mask [H, W] of a portrait uint8 [H, W, 3] RGB: True where it shows the person."""
