"""The interface of every store of photos, in memory or mapped from disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from portraitlab.types import FaceCoefficients


class Photos(Protocol):
    """P photos by row: identities, names, captions and pixels."""

    @property
    def identity(self) -> Sequence[str]:
        """Name of the identity of each photo."""
        ...

    @property
    def name(self) -> Sequence[str]:
        """Name of each photo, unique within its identity."""
        ...

    @property
    def caption(self) -> Sequence[str]:
        """Caption of each photo."""
        ...

    @property
    def flawed(self) -> Sequence[bool] | NDArray[np.bool_]:
        """True for a photo that is blurred, badly lit or covered: a reference, never a target."""
        ...

    def __len__(self) -> int: ...

    def owners(self) -> tuple[Sequence[str], NDArray[np.int64]]:
        """Return the identities' names and, for each photo [P], its identity's number."""
        ...

    def images(self, rows: Sequence[int] | Tensor) -> Tensor:
        """Return photos [B, 3, S, S] in [-1, 1], at the backbone's size."""
        ...

    def views(self, rows: Sequence[int] | Tensor) -> Tensor:
        """Return the same photos [B, 3, V, V] in [-1, 1], at the encoder's size."""
        ...

    def person_masks(self, rows: Sequence[int] | Tensor) -> Tensor:
        """Return masks bool [B, S, S], False where a photo is known not to show the person."""
        ...

    def true_coefficients(self, rows: Sequence[int] | Tensor) -> FaceCoefficients:
        """Return the coefficients that photos were rendered with; ValueError for real photos."""
        ...
