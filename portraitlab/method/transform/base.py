"""The base class of transforms, which change the pictures to noise and to draw."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from portraitlab.types import Batch


class Transform:
    """A change of a batch's pictures and control images together.

    wants: optional fields of Batch that it reads. side_by_side: True if the profile is placed
    beside the picture to draw.
    """

    wants: ClassVar[tuple[str, ...]] = ()
    side_by_side: bool = False

    def apply(self, batch: Batch, step: int) -> Batch:
        """Return the batch to train on in a step, the same kind for all of its samples.

        The batch has its drawing, unless there is no control image.
        """
        raise NotImplementedError

    def lay_out(self, batch: Batch) -> Batch:
        """Return the batch to draw, which has its drawing: by default as it is."""
        return batch

    def picture(self, latents: Tensor) -> Tensor:
        """Return the part of drawn latents [B, c, h, n·w] that is the portrait: all by default."""
        return latents
