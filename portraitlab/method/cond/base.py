"""The base class of conditions: the control image that shows the net the face's position."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from portraitlab.types import FaceGeometry, Pictures


class Cond(nn.Module):
    """A drawing of the control image of each sample.

    draws: False where there is no control image, so that the net builds no path for it. body: True
    where it draws the body's joints. wants: optional fields of Batch that it reads. One that wants
    "pictures" implements `sample` in place of `forward`.
    """

    draws: bool = True
    body: bool = False
    wants: ClassVar[tuple[str, ...]] = ()

    def forward(
        self, shape_geometry: FaceGeometry, target_geometry: FaceGeometry, size: int
    ) -> Tensor | None:
        """Draw control images [B, 3, size, size] in [-1, 1] on -1; None with cond=none.

        shape_geometry: geometry of the reference whose face shape is drawn. target_geometry:
        geometry of the image whose expression and pose are drawn.
        """
        raise NotImplementedError

    def of_faces(self) -> Cond:
        """Return the condition of a face that is restored by itself: this one by default."""
        return self

    def sample(self, pictures: Pictures) -> Tensor:
        """Make control images [B, 3, H, W] in [-1, 1] from the pixels of pictures."""
        raise NotImplementedError
