"""The base class of customisations, which train a copy of a model for one person."""

from __future__ import annotations

from portraitlab.method.model import PortraitModel
from portraitlab.types import Batch


class Customisation:
    """A training on one person's photos, before portraits of that person are drawn.

    changes: False where all people are drawn with the same weights.
    """

    changes: bool = True

    def __call__(self, model: PortraitModel, batch: Batch) -> PortraitModel:
        """Return the model for the person of a sample [1]; the given one is unchanged.

        The references of the sample have their latents.
        """
        raise NotImplementedError
