"""The world's DINO: a small vision transformer that has learned from images alone."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional
from transformers import ViTConfig, ViTModel

CONFIG = {
    "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 5, "num_attention_heads": 4,
    "image_size": 64, "patch_size": 8,
}  # fmt: skip


class SelfSupervisedEncoder(nn.Module):
    """Images [B, 3, S, S] in [-1, 1], S a multiple of 8, to unit embeddings [B, 128].

    The embedding is the class token, as FPGA's and DreamBooth's DINO score takes it. title: how
    records name it.
    """

    title = "DINO-like"

    def __init__(self, config: dict = CONFIG) -> None:
        super().__init__()
        self.image_size = config["image_size"]
        self.dim = config["hidden_size"]
        self.trunk = ViTModel(ViTConfig(**config), add_pooling_layer=False)

    def class_token(self, images: Tensor) -> Tensor:
        """The last layer's class token [B, 128] of images of any size that patches fill."""
        output = self.trunk(images, interpolate_pos_encoding=images.shape[-1] != self.image_size)
        return output.last_hidden_state[:, 0]

    def forward(self, images: Tensor) -> Tensor:
        """Unit embeddings [B, 128]; images are resized to 64 px."""
        if images.shape[-1] != self.image_size:
            size = (self.image_size, self.image_size)
            images = functional.interpolate(images, size, mode="bilinear", antialias=True)
        return functional.normalize(self.class_token(images), dim=-1)
