"""The world's two face recognisers, of different architecture.

`ResidualRecogniser` conditions and drives the identity loss; `ConvNextRecogniser` only judges.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional
from transformers import ConvNextV2Config, ConvNextV2Model, ResNetConfig, ResNetModel

CROP_SIZE = 48
EMBEDDING = 128
RESNET = {
    "embedding_size": 32, "hidden_sizes": [48, 96, 192], "depths": [1, 2, 2], "layer_type": "basic",
    "num_channels": 3,
}  # fmt: skip
CONVNEXT = {
    "hidden_sizes": [64, 128, 192], "depths": [2, 2, 2], "num_stages": 3, "patch_size": 4,
    "num_channels": 3,
}  # fmt: skip


class Recogniser(nn.Module):
    """Aligned crops [B, 3, 48, 48] in [-1, 1] to unit embeddings [B, 128].

    The backbones reduce by four before their first block, so the crop is enlarged twofold first:
    eyes a few pixels wide would not survive otherwise.
    """

    crop_size = CROP_SIZE
    global_dim = EMBEDDING

    def __init__(self, trunk: nn.Module, channels: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(channels), nn.Linear(channels, EMBEDDING))

    def forward(self, crops: Tensor) -> Tensor:
        fine = functional.interpolate(crops, scale_factor=2, mode="bilinear")
        features = self.trunk(fine).last_hidden_state
        # faces are aligned, so where a feature lies matters: a coarse grid instead of a mean
        return functional.normalize(self.head(functional.adaptive_avg_pool2d(features, 3)), dim=-1)


class ResidualRecogniser(Recogniser):
    """A small ResNet (He et al., CVPR 2016)."""

    def __init__(self, config: dict = RESNET) -> None:
        super().__init__(ResNetModel(ResNetConfig(**config)), 9 * config["hidden_sizes"][-1])


class ConvNextRecogniser(Recogniser):
    """A small ConvNeXt V2 (Woo et al., CVPR 2023): patches and depthwise convolutions."""

    def __init__(self, config: dict = CONVNEXT) -> None:
        super().__init__(ConvNextV2Model(ConvNextV2Config(**config)), 9 * config["hidden_sizes"][-1])
