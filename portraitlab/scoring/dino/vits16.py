"""DINO's ViT-S/16 (Caron et al., ICCV 2021), by which DreamBooth's DINO score is defined."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from portraitlab.support.hashes import file_digest
from portraitlab.support.weights import PublishedFile, load_state, read_state_dict, weights_file

_SETTING = "judge.dino.weights"
_PUBLISHED = PublishedFile(
    what="pytorch_model.bin",
    fetch="hf download facebook/dino-vits16 pytorch_model.bin",
    licence="Apache-2.0",
    size="87 MB",
)
_CONFIG = {"hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 6}
_RENAMED = {
    "encoder.layer.": "layers.",
    "attention.attention.query": "attention.q_proj",
    "attention.attention.key": "attention.k_proj",
    "attention.attention.value": "attention.v_proj",
    "attention.output.dense": "attention.o_proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}
"""Parts of the published names, and transformers' names since its version 5, in order."""
_SIZE = 224


class ViTS16(nn.Module):
    """An encoder of pictures to unit embeddings [B, 384], the class token; frozen.

    weights: the state dict as published. title: name in records.

    Raises ValueError if the file is missing, damaged or of another model.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weights: str | None = None) -> None:
        super().__init__()
        from transformers import ViTConfig, ViTModel

        path = weights_file(weights, _SETTING, _PUBLISHED)
        self.title = f"DINO's ViT-S/16, weights {file_digest(path)[:8]}"
        state = {_renamed(name): value for name, value in read_state_dict(path, _SETTING).items()}
        with torch.device("meta"):
            self.net = ViTModel(ViTConfig(**_CONFIG), add_pooling_layer=False)
        load_state(self.net, state, _SETTING, path, "ViT-S/16 of DINO")
        # ImageNet's statistics, by which it was trained.
        statistics = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
        for name, values in statistics.items():
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return unit embeddings of square images [B, 3, H, H] in [-1, 1], RGB.

        They are resized to 224 px, bilinear and antialiased.
        """
        if images.shape[-1] != _SIZE:
            size = (_SIZE, _SIZE)
            images = functional.interpolate(images, size, mode="bilinear", antialias=True)
        pixels = ((images.clamp(-1, 1) + 1) / 2 - self.mean) / self.std
        token = self.net(pixels).last_hidden_state[:, 0]
        return functional.normalize(token.float(), dim=-1)


def _renamed(name: str) -> str:
    for published, ours in _RENAMED.items():
        name = name.replace(published, ours)
    return name
