"""CLIP's image encoders (Radford et al., ICML 2021) with published weights, by transformers."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from portraitlab.faces.alignment import WIDE, Frame
from portraitlab.faces.clip.statistics import pixel_statistics
from portraitlab.support.checks import check_choice
from portraitlab.support.hub import Repository, find_published, read_model

Tokens = Literal["penultimate", "last", "pooled"]


class ClipVision(nn.Module):
    """A frozen CLIP ViT that gives patch tokens of crops, at the crop size of its weights.

    weights: its files. folder: a folder with these files; None uses the cache of `hf download`.
    tokens: `penultimate`, all tokens (class token first) before the last layer; `last`, after it;
    `pooled`, the class token alone after the final norm (L = 1).

    Raises MissingPublished (a ValueError) where files are missing, ValueError where they are
    damaged or of another model.
    """

    frame: Frame = WIDE
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        weights: Repository,
        folder: str | None = None,
        tokens: Tokens = "penultimate",
    ) -> None:
        super().__init__()
        check_choice("clip.tokens", tokens, get_args(Tokens))
        from transformers import CLIPVisionModel

        (place,) = find_published([(weights, folder)])
        mean, std = pixel_statistics(place / "preprocessor_config.json", weights.setting)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        # The published CLIP also has a text encoder, which is not loaded.
        self.net: Any = read_model(CLIPVisionModel, place, dtype=torch.float32)
        self.tokens = tokens
        if tokens == "penultimate":  # the last layer would be computed for nothing
            del self.net.encoder.layers[-1]
        vision = self.net.config
        self.crop_size = int(vision.image_size)
        self.local_dim = int(vision.hidden_size)
        patches = (vision.image_size // vision.patch_size) ** 2
        self.local_length = 1 if tokens == "pooled" else patches + 1
        # A buffer, so that the fingerprint that keys cached features includes the choice of tokens.
        self.register_buffer("chosen", torch.tensor(get_args(Tokens).index(tokens)))
        self.eval().requires_grad_(False)

    def patch_tokens(self, images: Tensor) -> Tensor:
        """Encode crops [B, 3, crop_size, crop_size] in [-1, 1], RGB, as [B, L, local_dim]."""
        pixels = ((images + 1) / 2 - self.mean) / self.std
        output = self.net(pixels)
        pooled = self.tokens == "pooled"
        tokens: Tensor = output.pooler_output[:, None] if pooled else output.last_hidden_state
        return tokens
