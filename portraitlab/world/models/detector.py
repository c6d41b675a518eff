"""The world's RetinaFace: a detector of several faces, with box, score and five points each.

It has one stage and no anchors: a face is a peak of a heat map, and its places are read at the peak
(Zhou et al., 2019, Objects as Points; Xu et al., ICCV Workshops 2019, CenterFace).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import nms
from transformers import ResNetConfig
from transformers.models.resnet import ResNetBackbone

from portraitlab.types import TensorRecord

CONFIG = {
    "embedding_size": 32, "hidden_sizes": [48, 96, 160], "depths": [2, 2, 2],
    "layer_type": "basic", "num_channels": 3, "out_features": ["stage1", "stage2", "stage3"],
}  # fmt: skip
STRIDE = 4
"""Pixels of the picture per cell of the heat map."""
PLACES = 7
"""Points of a face: its box's left top and right bottom, then the five keypoints."""
_NECK = 64
_COARSEST = 16
_RARE = -4.6
"""Logit of the heat before training: a face in one of a hundred cells."""


@dataclass(frozen=True)
class DetectedFaces(TensorRecord):
    """Faces of one picture, by falling score; places are image fractions.

    boxes [K, 4]: left, top, right and bottom of the face's landmarks. scores [K]: probabilities.
    keypoints [K, 5, 2]: eyes, nose tip and mouth corners.
    """

    boxes: Tensor
    scores: Tensor
    keypoints: Tensor


class HeatMapDetector(nn.Module):
    """A detector of the faces of pictures [B, 3, H, W] in [-1, 1], with sides of 64 to 256 px.

    It is trained on faces of 12 to 90 px.
    """

    def __init__(self, config: dict = CONFIG) -> None:
        super().__init__()
        self.trunk = ResNetBackbone(ResNetConfig(**config))
        self.lateral = nn.ModuleList(nn.Conv2d(width, _NECK, 1) for width in config["hidden_sizes"])
        self.head = nn.Sequential(
            nn.Conv2d(_NECK, _NECK, 3, padding=1, bias=False), nn.BatchNorm2d(_NECK), nn.GELU(),
            nn.Conv2d(_NECK, 1 + 2 * PLACES, 1),
        )  # fmt: skip
        last = self.head[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        nn.init.constant_(last.bias[:1], _RARE)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Predict heat [B, h, w] as logits, and places [B, 7, 2, h, w] in cells from cell centres.

        h and w are H / 4 and W / 4; H and W must be multiples of 16.
        """
        coarse, *finer = reversed(self.trunk(images).feature_maps)
        top, *sides = reversed(self.lateral)
        # Top down, as a feature pyramid (Lin et al., CVPR 2017), to the finest map alone.
        features = top(coarse)
        for side, finer_map in zip(sides, finer, strict=True):
            features = functional.interpolate(features, scale_factor=2.0) + side(finer_map)
        heat, places = self.head(features).split([1, 2 * PLACES], 1)
        return heat[:, 0], places.unflatten(1, (PLACES, 2))

    @torch.no_grad()
    def find(self, images: Tensor, threshold: float = 0.5) -> list[DetectedFaces]:
        """Detect the faces of each picture that score `threshold` or more.

        A side that is no multiple of 16 is padded by repeating the border.
        """
        height, width = images.shape[-2:]
        spare = (0, -width % _COARSEST, 0, -height % _COARSEST)
        logits, places = self(functional.pad(images, spare, mode="replicate"))
        scores = torch.sigmoid(logits.float())
        return read_faces(scores, places.float(), (width / STRIDE, height / STRIDE), threshold)


def read_faces(
    scores: Tensor, places: Tensor, extent: tuple[float, float], threshold: float
) -> list[DetectedFaces]:
    """Read the faces of each picture at the peaks of its scores.

    scores [B, h, w]: probabilities; places [B, 7, 2, h, w]: HeatMapDetector's prediction; extent:
    the picture's width and height in cells.
    """
    peaks = functional.max_pool2d(scores, 3, stride=1, padding=1) == scores
    found = []
    for score, place, peak in zip(scores, places, peaks, strict=True):
        row, column = torch.nonzero(peak & (score >= threshold), as_tuple=True)
        centre = torch.stack([column, row], -1)[:, None] + 0.5
        points = (place[:, :, row, column].permute(2, 0, 1) + centre) / scores.new_tensor(extent)
        boxes = points[:, :2].flatten(1)
        # nms sorts by falling score.
        kept = nms(boxes, score[row, column], iou_threshold=0.4)
        found.append(DetectedFaces(boxes, score[row, column], points[:, 2:])[kept])
    return found
