"""The base class of transforms, which change a training batch before it is noised."""

from __future__ import annotations

from portraitlab.types import Batch


class Transform:
    """A change of a batch's pictures and control images together."""

    def apply(self, batch: Batch, step: int) -> Batch:
        """Return the batch to train on in a step, the same kind for all of its samples.

        The batch has its drawing, unless there is no control image.
        """
        raise NotImplementedError
