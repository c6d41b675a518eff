"""The world's DINO: a small vision transformer trained on images without labels."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional
from transformers import ViTConfig, ViTModel

CONFIG = {
    "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 5, "num_attention_heads": 4,
    "image_size": 64, "patch_size": 8,
}  # fmt: skip


class SelfSupervisedEncoder(nn.Module):
    """An encoder of images [B, 3, S, S] in [-1, 1], S a multiple of 8, to unit embeddings [B, 128].

    The embedding is the class token, as in FPGA's and DreamBooth's DINO score. title: name in
    records.
    """

    title = "DINO-like"

    def __init__(self, config: dict = CONFIG) -> None:
        super().__init__()
        self.image_size = config["image_size"]
        self.dim = config["hidden_size"]
        self.trunk = ViTModel(ViTConfig(**config), add_pooling_layer=False)

    def tokens(self, images: Tensor) -> Tensor:
        """Return the last layer's tokens [B, 1 + patches, 128], the class token first.

        Image sizes are multiples of a patch; patches are in order row by row.
        """
        output = self.trunk(images, interpolate_pos_encoding=images.shape[-1] != self.image_size)
        return output.last_hidden_state

    def class_token(self, images: Tensor) -> Tensor:
        """Return the last layer's class token [B, 128]; image sizes are multiples of a patch."""
        return self.tokens(images)[:, 0]

    def forward(self, images: Tensor) -> Tensor:
        """Return unit embeddings [B, 128]; images are resized to 64 px."""
        if images.shape[-1] != self.image_size:
            size = (self.image_size, self.image_size)
            images = functional.interpolate(images, size, mode="bilinear", antialias=True)
        return functional.normalize(self.class_token(images), dim=-1)
