"""The world's CLIP-like pair: a small CLIPModel of transformers over the world's vocabulary."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel

from portraitlab.faces.alignment import WIDE
from portraitlab.world.tokenizer import END, PAD, START, WordTokenizer

TEXT_LENGTH = 76
CONFIG = {
    "projection_dim": 96,
    "text_config": {
        "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 3,
        "num_attention_heads": 4, "max_position_embeddings": TEXT_LENGTH,
        "vocab_size": WordTokenizer(TEXT_LENGTH).size,
        "bos_token_id": START, "eos_token_id": END, "pad_token_id": PAD,
    },
    "vision_config": {
        "hidden_size": 160, "intermediate_size": 480, "num_hidden_layers": 4,
        "num_attention_heads": 5, "image_size": 64, "patch_size": 8,
    },
}  # fmt: skip


class ClipEncoder(nn.Module):
    """Encoders of images and texts to one space, and of images to patch tokens.

    Images are [B, 3, 64, 64] in [-1, 1]; other sizes are resized. `local_dim` and `local_length`
    are the width and number of the patch tokens (class token first). patch_mean and patch_std
    [local_dim] are statistics of the tokens, set by `measure_patches`. title: name in records.
    sizing: description of the resizing in records.
    """

    patch_mean: Tensor
    patch_std: Tensor
    frame = WIDE
    title = "CLIP-like"
    sizing = "no resize"  # all of the world is 64 px wide

    def __init__(self, config: dict = CONFIG) -> None:
        super().__init__()
        self.model = CLIPModel(CLIPConfig(**config))
        self.tokenizer = WordTokenizer(TEXT_LENGTH)
        vision = self.model.config.vision_config
        self.crop_size = vision.image_size
        self.local_dim = vision.hidden_size
        self.local_length = (vision.image_size // vision.patch_size) ** 2 + 1
        self.register_buffer("patch_mean", torch.zeros(self.local_dim))
        self.register_buffer("patch_std", torch.ones(self.local_dim))

    def _sized(self, images: Tensor) -> Tensor:
        if images.shape[-1] == self.crop_size:
            return images
        return functional.interpolate(
            images, (self.crop_size, self.crop_size), mode="bilinear", antialias=True
        )

    def patch_tokens(self, images: Tensor) -> Tensor:
        """Return the penultimate layer's tokens [B, L, local_dim], standardised.

        That layer is the usual choice for CLIP. Standardising removes the part that all images
        share, which is most of the tokens' squared norm: attention that starts with even weights
        averages tokens, which would leave little but that part.
        """
        return (self._penultimate(images) - self.patch_mean) / self.patch_std

    @torch.no_grad()
    def measure_patches(self, images: Tensor) -> None:
        """Set patch_mean and patch_std from typical images [B, 3, H, W] in [-1, 1]."""
        tokens = self._penultimate(images).flatten(0, 1)
        self.patch_mean.copy_(tokens.mean(0))
        self.patch_std.copy_(tokens.std(0))

    def _penultimate(self, images: Tensor) -> Tensor:
        output = self.model.vision_model(self._sized(images), output_hidden_states=True)
        return output.hidden_states[-2]

    def image_embedding(self, images: Tensor) -> Tensor:
        """Return unit embeddings [B, 96] of images."""
        output = self.model.get_image_features(self._sized(images)).pooler_output
        return functional.normalize(output.float(), dim=-1)

    def text_embedding(self, texts: Sequence[str]) -> Tensor:
        """Return unit embeddings [B, 96] of texts."""
        tokens = self.tokenizer(texts).to(self.model.device)
        output = self.model.get_text_features(tokens, attention_mask=(tokens != PAD).long())
        return functional.normalize(output.pooler_output.float(), dim=-1)

    def contrastive_loss(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """Compute the symmetric cross-entropy of CLIP (Radford et al., ICML 2021, Fig. 3)."""
        scale = self.model.logit_scale.exp().clamp(max=100)
        logits = scale * self.image_embedding(images) @ self.text_embedding(texts).T
        own = torch.arange(len(logits), device=logits.device)
        return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2
