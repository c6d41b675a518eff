"""The baseline of restorations: enlarge a face to the working size, and reduce it again."""

from __future__ import annotations

from torch import Tensor

from portraitlab.method.edit.restoration import FaceRestoration
from portraitlab.method.model import PortraitModel
from portraitlab.types import Condition


class Bicubic(FaceRestoration):
    """A restoration that changes no crop, so that only the resizing to and fro remains."""

    def restore(
        self,
        model: PortraitModel,
        crops: Tensor,
        condition: Condition,
        masks: Tensor,
        beside: Tensor | None = None,
    ) -> Tensor:
        """Return the crops."""
        return crops
