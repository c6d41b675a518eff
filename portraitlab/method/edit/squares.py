"""Cut square crops around faces out of a picture, and put new pixels back under a mask."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from portraitlab.faces.framing import FACE_WIDTH, FRAME_CENTRE, FRAME_SPREAD


@dataclass(frozen=True)
class Square:
    """A square of a picture in pixels: left, top and side. It may reach beyond the picture."""

    left: int
    top: int
    side: int

    def cut(self, picture: Tensor, size: int) -> Tensor:
        """Cut the square from a picture [3, H, W], resized to [3, size, size].

        Beyond the picture its border is repeated.
        """
        height, width = picture.shape[-2:]
        rows = torch.arange(self.top, self.top + self.side).clamp(0, height - 1)
        columns = torch.arange(self.left, self.left + self.side).clamp(0, width - 1)
        return resized(picture[:, rows][:, :, columns], size).clamp(-1, 1)

    def put_back(
        self, picture: Tensor, mask: Tensor, crop: Tensor, weight: Tensor, over: bool = True
    ) -> None:
        """Blend a crop [3, size, size] into a picture [3, H, W], in place.

        weight [1, size, size] in [0, 1]: weight of the crop. mask [1, H, W]: is raised to the
        weights that were used. A pixel of weight 0 is not written. over: False writes no pixel that
        is in the mask, either.
        """
        height, width = picture.shape[-2:]
        top, left = max(self.top, 0), max(self.left, 0)
        bottom, right = min(self.top + self.side, height), min(self.left + self.side, width)
        within = (
            slice(None),
            slice(top - self.top, bottom - self.top),
            slice(left - self.left, right - self.left),
        )
        new = resized(crop, self.side).clamp(-1, 1)[within]
        share = resized(weight, self.side, mode="bilinear").clamp(0, 1)[within]
        place = (slice(None), slice(top, bottom), slice(left, right))
        if not over:
            share = share.where(mask[place] == 0, 0)
        old = picture[place]
        picture[place] = torch.where(share > 0, old + share * (new - old), old)
        mask[place] = torch.maximum(mask[place], share)


def square_around(keypoints: Tensor, width: int, height: int, margin: float = 1.0) -> Square:
    """Return the square that frames a face as the backbone's portraits frame theirs.

    keypoints [5, 2]: fractions of a picture of width x height pixels. margin: 1 frames it as a
    portrait, 2 twice as wide.
    """
    points = keypoints.double() * torch.tensor([width, height])
    centre = points.mean(0)
    spread = float((points - centre).square().sum(-1).mean().sqrt())
    side = max(round(margin * spread / FRAME_SPREAD), 1)
    middle = centre - side * (torch.tensor(FRAME_CENTRE) - 0.5) / margin
    left, top = (round(float(value) - side / 2) for value in middle)
    return Square(left, top, side)


def resized(image: Tensor, size: int, mode: str = "bicubic") -> Tensor:
    """Resize an image [C, K, K] to [C, size, size], antialiased."""
    if image.shape[-1] == size:
        return image
    return functional.interpolate(
        image[None], (size, size), mode=mode, antialias=True, align_corners=False
    )[0]


def face_width(square: Square, margin: float) -> float:
    """Return the width in pixels of the face that a square frames with a margin."""
    return FACE_WIDTH * square.side / margin
