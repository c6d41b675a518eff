"""Align face crops by moving five keypoints onto a template.

All templates derive from ArcFace's (Deng et al., CVPR 2019, the five points of its 112 px crop).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from portraitlab.support.precision import without_autocast

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
"""Positions of the five keypoints in a wide crop [5, 2], as fractions, in FaceGeometry's order.

ArcFace's template, shrunk so that hair and chin, which carry identity too, stay in view.
"""


@dataclass(frozen=True, eq=False)
class Frame:
    """The alignment that a model's crops use.

    template [5, 2]: target positions of the five keypoints, as fractions of the crop, in
    FaceGeometry's order. fitted_in_crop: True minimises the squared error in the crop, as
    insightface's norm_crop does (Umeyama, PAMI 1991); False minimises it in the image. Both agree
    where keypoints match the template exactly; otherwise the first shows a slightly larger part of
    the image.
    """

    template: Tensor
    fitted_in_crop: bool = False


WIDE = Frame(TEMPLATE)
"""The face with hair and chin, for the miniature world's models and for image encoders."""

ARCFACE = Frame((_ARCFACE + 0.5) / 112, fitted_in_crop=True)
"""The alignment of norm_crop for ArcFace, whose template counts from the first pixel's centre."""

FACENET = Frame(
    torch.tensor([[0.298, 0.415], [0.702, 0.415], [0.5, 0.589], [0.327, 0.709], [0.673, 0.709]])
)
"""A face detector's box with the margin that FaceNet was trained with.

FaceNet's crops are boxes (Schroff et al., CVPR 2015; the published weights: 44 px around them in
182 px, the middle 160 px of that). The positions are medians of SCRFD's keypoints in its boxes
over 52 photos, made symmetric.
"""


class SeesCrops(Protocol):
    """A model of crops of crop_size pixels, aligned to `frame`."""

    crop_size: int
    frame: Frame


def similarity(keypoints: Tensor, frame: Frame = WIDE) -> Tensor:
    """Fit the similarity transform from the crop to the image by least squares, in closed form.

    keypoints [B, 5, 2] in any unit with square pixels. Returns [B, 2, 3], which maps a point of the
    crop (fractions, x and y) to the image, in the unit of the keypoints. Coinciding keypoints give
    a crop of size zero, never NaN.
    """
    # Centre the template and the keypoints.
    template = frame.template.to(keypoints)
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
    if frame.fitted_in_crop:
        # The inverse of the fit from image to crop has the same rotation; its scale is divided by
        # the squared correlation of keypoints and template. Below 0.25 it is not a face.
        explained = (cosine.square() + sine.square()) * spread
        total = target.square().sum(dim=(1, 2))
        correlation = explained / total.clamp(min=torch.finfo(total.dtype).tiny)
        linear = linear / correlation.clamp(min=0.25)[:, None, None]
    shift = keypoints_mean - linear @ template_mean
    return torch.cat([linear, shift[..., None]], dim=-1)


FACE = 2.6
"""Edge of a face's box in the units of face_boxes, from jaw to brows."""


def face_boxes(keypoints: Tensor, edge: float = FACE) -> Tensor:
    """Compute square boxes [..., 4] of faces: left, top, right and bottom.

    keypoints [..., 5, 2] and boxes are fractions of the image. edge: edge of a box, in units
    of the distance between the eyes, or from eyes to mouth if that is longer.
    """
    centre = keypoints.mean(dim=-2)
    eyes, mouth = keypoints[..., :2, :], keypoints[..., 3:, :]
    apart = (eyes[..., 1, :] - eyes[..., 0, :]).norm(dim=-1)
    down = (mouth.mean(dim=-2) - eyes.mean(dim=-2)).norm(dim=-1)
    half = (edge / 2 * torch.maximum(apart, down))[..., None]
    return torch.cat([centre - half, centre + half], dim=-1)


def align(images: Tensor, keypoints: Tensor, size: int, frame: Frame = WIDE) -> Tensor:
    """Crop the face of each image so that its keypoints match the frame's template.

    images [B, C, H, W]; keypoints [B, 5, 2] as fractions of the image; size: the crop's edge in
    pixels. Returns [B, C, size, size], differentiable in the images. No gradient flows through the
    keypoints: a loss must not improve by moving the crop. Positions outside the image repeat its
    border. Sampling is bilinear, so an image whose face is several times larger than the crop
    should be downscaled first, as `face_crops` does.
    """
    height, width = images.shape[-2:]
    images = images.to(torch.promote_types(images.dtype, torch.float32))
    extent = images.new_tensor([width, height])
    # Places in single precision, also under autocast: bfloat16 would move them by quarter pixels.
    with torch.no_grad(), without_autocast(images.device):
        transform = similarity(keypoints.to(images) * extent, frame)
        centres = (torch.arange(size, device=images.device, dtype=images.dtype) + 0.5) / size
        rows, columns = torch.meshgrid(centres, centres, indexing="ij")
        points = torch.stack([columns, rows, torch.ones_like(rows)], dim=-1)
        pixels = torch.einsum("bij,hwj->bhwi", transform, points)
        grid = 2 * pixels / extent - 1
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def face_crops(images: Tensor, keypoints: Tensor, model: SeesCrops) -> Tensor:
    """Crop portraits [B, C, S, S] to a model's input [B, C, c, c], differentiable in them.

    Portraits larger than twice the crop are downscaled to that size first, with antialiasing.
    """
    # Half precision has no anti-aliased resizing on a CPU.
    images = images.to(torch.promote_types(images.dtype, torch.float32))
    most = 2 * model.crop_size
    if images.shape[-1] > most:
        images = functional.interpolate(
            images, (most, most), mode="bilinear", antialias=True, align_corners=False
        )
    return align(images, keypoints, model.crop_size, model.frame)
