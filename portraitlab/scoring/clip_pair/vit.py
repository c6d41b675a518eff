"""CLIP's image and text encoders (Radford et al., ICML 2021), for CLIP metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from portraitlab.faces.clip.statistics import pixel_statistics
from portraitlab.support.hashes import file_digest
from portraitlab.support.hub import Repository, find_published, read_model


class ClipPair(nn.Module):
    """Encoders of pictures and prompts to one space, with published weights; frozen.

    weights: its files. folder: a folder of the same files; None searches where `hf download` puts
    them. title: name in records. sizing: description of the resizing in records.

    Raises MissingPublished (a ValueError) if files are missing, ValueError if they are damaged or
    of another model.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, weights: Repository, folder: str | None = None) -> None:
        super().__init__()
        from transformers import CLIPModel

        from portraitlab.diffusion.tokenizers import ClipTokens, read_tokenizer

        (place,) = find_published([(weights, folder)])
        # A folder may contain any weights, so identify them by their content.
        own = f"weights {file_digest(place / 'model.safetensors')[:8]}"
        self.title = f"CLIP ({weights.repository if folder is None else own})"
        mean, std = pixel_statistics(place / "preprocessor_config.json", weights.setting)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.net: Any = read_model(CLIPModel, place, dtype=torch.float32)
        self.tokens = ClipTokens(read_tokenizer(place))
        self.image_size = int(self.net.config.vision_config.image_size)
        self.sizing = f"bicubic to {self.image_size} px"
        self.eval().requires_grad_(False)

    def image_embedding(self, images: Tensor) -> Tensor:
        """Return unit embeddings [B, e'] of square images [B, 3, H, H] in [-1, 1], RGB.

        They are resized as published: bicubic, antialiased.
        """
        if images.shape[-1] != self.image_size:
            size = (self.image_size, self.image_size)
            images = functional.interpolate(images, size, mode="bicubic", antialias=True)
        pixels = ((images.clamp(-1, 1) + 1) / 2 - self.mean) / self.std
        output = self.net.get_image_features(pixels).pooler_output
        return functional.normalize(output.float(), dim=-1)

    def text_embedding(self, texts: Sequence[str]) -> Tensor:
        """Return unit embeddings [B, e'] of prompts, each cut to 77 tokens."""
        tokens = self.tokens(list(texts)).to(self.mean.device)
        output = self.net.get_text_features(tokens).pooler_output
        return functional.normalize(output.float(), dim=-1)
