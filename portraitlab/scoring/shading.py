"""Shading of a face at low frequencies, where light shows and features hardly do."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from portraitlab.faces.alignment import ARCFACE, Frame, face_crops

GRID = 6
"""Cells along each side of the grid."""
_PIXELS = 4
"""Pixels along each side of a cell."""
_CORNER, _SIDE = ARCFACE.template.new_tensor([0.18, 0.30]), 0.64
_LUMINANCE = (0.2126, 0.7152, 0.0722)
"""Shares of red, green and blue (ITU-R BT.709)."""


class _InnerFace:
    """The square from brows to chin and between the cheeks, as a part of ArcFace's crop."""

    crop_size = GRID * _PIXELS
    frame = Frame((ARCFACE.template - _CORNER) / _SIDE)


def shading(images: Tensor, keypoints: Tensor) -> Tensor:
    """Compute the mean luminance [B, K, K] in [0, 1] of a face in K x K cells.

    images [B, 3, S, S] in [-1, 1]; keypoints [B, 5, 2] as fractions of the image. Luminance is
    that of the pixel values, as they are stored.
    """
    crops = face_crops(images, keypoints, _InnerFace())
    weights = crops.new_tensor(_LUMINANCE)[:, None, None]
    luminance = ((crops + 1) / 2 * weights).sum(dim=1)
    return functional.avg_pool2d(luminance, _PIXELS)
