"""The base class of conditions: the control image that shows the net the face's position."""

from __future__ import annotations

from torch import Tensor, nn

from portraitlab.types import FaceGeometry


class Cond(nn.Module):
    """A drawing of the control image of each sample.

    draws: False where there is no control image, so that the net builds no path for it. body: True
    where it draws the body's joints.
    """

    draws: bool = True
    body: bool = False

    def forward(
        self, shape_geometry: FaceGeometry, target_geometry: FaceGeometry, size: int
    ) -> Tensor | None:
        """Draw control images [B, 3, size, size] in [-1, 1] on -1; None with cond=none.

        shape_geometry: geometry of the reference whose face shape is drawn. target_geometry:
        geometry of the image whose expression and pose are drawn.
        """
        raise NotImplementedError
