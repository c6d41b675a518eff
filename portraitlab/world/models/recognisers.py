"""The world's two face recognisers, of different architecture.

`ResidualRecogniser` conditions and drives the identity loss; `ConvNextRecogniser` only judges.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional
from transformers import ConvNextV2Config, ConvNextV2Model, ResNetConfig, ResNetModel

from portraitlab.alignment import WIDE

CROP_SIZE = 48
EMBEDDING = 128
RESNET = {
    "embedding_size": 32, "hidden_sizes": [48, 96, 192], "depths": [1, 2, 2],
    "layer_type": "basic", "num_channels": 3,
}  # fmt: skip
CONVNEXT = {
    "hidden_sizes": [48, 96, 160], "depths": [2, 2, 2], "num_stages": 3, "patch_size": 4,
    "num_channels": 3,
}  # fmt: skip


class Recogniser(nn.Module):
    """Aligned crops [B, 3, 48, 48] in [-1, 1] to unit embeddings [B, 128].

    trunk: sees crops of trunk_size pixels; the last of its `widths` is that of its feature maps.
    It halves the maps at each width but the first, and reduces by four before. title: how records
    name it.
    """

    title = "the judging recogniser"
    crop_size = CROP_SIZE
    frame = WIDE
    global_dim = EMBEDDING

    def __init__(self, trunk: nn.Module, trunk_size: int, widths: list[int]) -> None:
        super().__init__()
        edge = trunk_size // (4 * 2 ** (len(widths) - 1))
        features = edge * edge * widths[-1]
        self.trunk = trunk
        self.trunk_size = trunk_size
        # faces are aligned, so where a feature lies matters: the grid is kept instead of its mean
        self.head = nn.Sequential(
            nn.Flatten(), nn.BatchNorm1d(features), nn.Linear(features, EMBEDDING)
        )

    def forward(self, crops: Tensor) -> Tensor:
        """Unit embeddings [B, 128]."""
        if crops.shape[-1] != self.trunk_size:
            crops = functional.interpolate(crops, size=self.trunk_size, mode="bilinear")
        # The length in single precision: a cosine is to be one, also of bfloat16 products.
        return functional.normalize(self.head(self.trunk(crops).last_hidden_state).float(), dim=-1)


class ResidualRecogniser(Recogniser):
    """A small ResNet (He et al., CVPR 2016).

    It reduces by four before its first block, so the crop is enlarged first: eyes a few pixels
    wide would not survive otherwise.
    """

    def __init__(self, config: dict = RESNET) -> None:
        super().__init__(ResNetModel(ResNetConfig(**config)), 64, config["hidden_sizes"])


class ConvNextRecogniser(Recogniser):
    """A small ConvNeXt V2 (Woo et al., CVPR 2023): patches and depthwise convolutions."""

    def __init__(self, config: dict = CONVNEXT) -> None:
        trunk = ConvNextV2Model(ConvNextV2Config(**config))
        super().__init__(trunk, CROP_SIZE, config["hidden_sizes"])
