"""No transform: pictures as they are."""

from __future__ import annotations

from portraitlab.method.transform.base import Transform
from portraitlab.types import Batch


class NoTransform(Transform):
    """A transform that changes nothing."""

    def apply(self, batch: Batch, step: int) -> Batch:
        """Return the batch itself."""
        return batch
