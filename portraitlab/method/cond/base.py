"""What every cond gives: a control image that tells the net where the face goes."""

from __future__ import annotations

from torch import Tensor, nn

from portraitlab.types import FaceGeometry


class Cond(nn.Module):
    """Draws the control image of each sample.

    draws: False where there is no control image, so that the net builds no path for one.
    """

    draws: bool = True

    def forward(
        self, shape_geometry: FaceGeometry, target_geometry: FaceGeometry, size: int
    ) -> Tensor | None:
        """Control images [B, 3, size, size] in [-1, 1], -1 the background; None with cond=none.

        shape_geometry: of the reference whose face shape is drawn. target_geometry: of the image
        whose expression and pose are drawn.
        """
        raise NotImplementedError
