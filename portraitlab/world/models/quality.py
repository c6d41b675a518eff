"""Face quality of one photo: the world's ModelScopeFQA (HiFi-Portrait, S_q of eq. 9)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import ResNetConfig, ResNetModel

from portraitlab.faces.alignment import WIDE
from portraitlab.world.models.recognisers import CROP_SIZE

CONFIG = {
    "embedding_size": 24, "hidden_sizes": [24, 48, 96], "depths": [1, 1, 1],
    "layer_type": "basic", "num_channels": 3,
}  # fmt: skip
_TRUNK_SIZE = 64


class FaceQualityNet(nn.Module):
    """A scorer of aligned crops [B, 3, 48, 48] in [-1, 1], with their background, in [0, 1].

    A score estimates how well a recogniser still recognises the person: 1 for a photo without a
    flaw.
    """

    crop_size = CROP_SIZE
    frame = WIDE

    def __init__(self, config: dict = CONFIG) -> None:
        super().__init__()
        self.trunk = ResNetModel(ResNetConfig(**config))
        self.head = nn.Linear(config["hidden_sizes"][-1], 1)

    def forward(self, crops: Tensor) -> Tensor:
        """Predict scores [B]."""
        # Enlarge as for the recogniser: the trunk reduces by four before its first block.
        fine = functional.interpolate(crops, size=_TRUNK_SIZE, mode="bilinear")
        features = self.trunk(fine).pooler_output.flatten(1)
        return torch.sigmoid(self.head(features))[:, 0]
