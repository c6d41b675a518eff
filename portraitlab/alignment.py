"""Face crops as recognisers expect them: five keypoints moved onto a template.

The template is ArcFace's (Deng et al., CVPR 2019, the five points of its 112 px crop), shrunk so
that hair and chin, which carry identity too, stay in view.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_ARCFACE = torch.tensor(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ]
)
_CENTRE = torch.tensor([0.5, 0.55])

TEMPLATE: Tensor = _CENTRE + 0.8 * (_ARCFACE / 112 - _CENTRE)
"""The five keypoints' places in a crop [5, 2], as fractions of it, in FaceGeometry's order."""


def similarity(keypoints: Tensor) -> Tensor:
    """Least-squares similarity transform from the crop to the image, in closed form.

    keypoints [B, 5, 2] in any unit with square pixels. Returns [B, 2, 3] that takes a point of the
    crop (fractions, x and y) to the image, in the unit of the keypoints. Fitting in this direction
    divides by the template alone, so that keypoints which coincide give a crop without extent and
    never NaN.
    """
    template = TEMPLATE.to(keypoints)
    template_mean = template.mean(dim=0)
    source = template - template_mean
    keypoints_mean = keypoints.mean(dim=1)
    target = keypoints - keypoints_mean[:, None]
    # A similarity is one complex factor: cosine and sine, each times the scale.
    spread = source.square().sum()
    cosine = (source * target).sum(dim=(1, 2)) / spread
    sine = (source[:, 0] * target[..., 1] - source[:, 1] * target[..., 0]).sum(dim=1) / spread
    linear = torch.stack(
        [torch.stack([cosine, -sine], dim=-1), torch.stack([sine, cosine], dim=-1)], dim=-2
    )
    shift = keypoints_mean - linear @ template_mean
    return torch.cat([linear, shift[..., None]], dim=-1)


def align(images: Tensor, keypoints: Tensor, size: int) -> Tensor:
    """Crop the face of each image so that its keypoints lie on the template.

    images [B, C, H, W]; keypoints [B, 5, 2] as fractions of the image; size: the crop's edge in
    pixels. Returns [B, C, size, size], differentiable in the images. No gradient goes through the
    keypoints: a crop must not get better by moving its window. Places outside the image repeat its
    border. Sampling is bilinear, so an image whose face is several times larger than the crop
    should be reduced first.
    """
    height, width = images.shape[-2:]
    extent = images.new_tensor([width, height])
    with torch.no_grad():
        transform = similarity(keypoints.to(images) * extent)
        centres = (torch.arange(size, device=images.device, dtype=images.dtype) + 0.5) / size
        rows, columns = torch.meshgrid(centres, centres, indexing="ij")
        points = torch.stack([columns, rows, torch.ones_like(rows)], dim=-1)
        pixels = torch.einsum("bij,hwj->bhwi", transform, points)
        grid = 2 * pixels / extent - 1
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
