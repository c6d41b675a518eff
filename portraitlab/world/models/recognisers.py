"""The world's three face recognisers, of different architectures.

`ResidualRecogniser` conditions and drives the identity loss. `ConvNextRecogniser` only judges, and
`SwinRecogniser` is a second judge, which shows if a result depends on the first one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    ConvNextV2Config,
    ConvNextV2Model,
    ResNetConfig,
    ResNetModel,
    SwinConfig,
    SwinModel,
)

from portraitlab.faces.alignment import WIDE

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

SWIN = {
    "image_size": CROP_SIZE, "patch_size": 4, "num_channels": 3, "embed_dim": 64,
    "depths": [2, 4], "num_heads": [2, 4], "window_size": 6, "drop_path_rate": 0.0,
    "use_absolute_embeddings": True,
}  # fmt: skip


class WorldRecogniser(nn.Module):
    """An encoder of aligned crops [B, 3, 48, 48] in [-1, 1] to unit embeddings [B, 128].

    trunk: is given crops of trunk_size pixels. It reduces them by four, halves the maps at each of
    `widths` but the first, and returns feature maps of the last width. title: name in records.
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
        # Faces are aligned, so positions matter: keep the grid of features instead of its mean.
        self.head = nn.Sequential(
            nn.Flatten(), nn.BatchNorm1d(features), nn.Linear(features, EMBEDDING)
        )

    def forward(self, crops: Tensor) -> Tensor:
        """Return unit embeddings [B, 128]."""
        if crops.shape[-1] != self.trunk_size:
            crops = functional.interpolate(crops, size=self.trunk_size, mode="bilinear")
        # Normalise in single precision, so that equal embeddings have a cosine of 1 under bfloat16.
        return functional.normalize(self.head(self.trunk(crops).last_hidden_state).float(), dim=-1)


class ResidualRecogniser(WorldRecogniser):
    """A small ResNet (He et al., CVPR 2016).

    It reduces by four before its first block, so crops are enlarged first, to preserve eyes that
    are a few pixels wide.
    """

    def __init__(self, config: dict = RESNET) -> None:
        super().__init__(ResNetModel(ResNetConfig(**config)), 64, config["hidden_sizes"])


class ConvNextRecogniser(WorldRecogniser):
    """A small ConvNeXt V2 (Woo et al., CVPR 2023): patches and depthwise convolutions."""

    def __init__(self, config: dict = CONVNEXT) -> None:
        trunk = ConvNextV2Model(ConvNextV2Config(**config))
        super().__init__(trunk, CROP_SIZE, config["hidden_sizes"])


class SwinRecogniser(WorldRecogniser):
    """A small Swin transformer (Liu et al., ICCV 2021): patches and attention within windows."""

    def __init__(self, config: dict = SWIN) -> None:
        stages = range(len(config["depths"]))
        trunk = SwinModel(SwinConfig(**config), add_pooling_layer=False)
        super().__init__(trunk, CROP_SIZE, [config["embed_dim"] * 2**stage for stage in stages])


ARCHITECTURES: dict[str, tuple[Callable[[dict[str, Any]], WorldRecogniser], dict[str, Any]]] = {
    "recogniser": (ResidualRecogniser, RESNET),
    "judge": (ConvNextRecogniser, CONVNEXT),
    "second_judge": (SwinRecogniser, SWIN),
}
"""Class and configuration of each recogniser of the foundation, by its name."""
