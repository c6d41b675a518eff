"""An image in place of the text prompt (IC-Portrait, Sec. 4)."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from portraitlab.diffusion.architectures import CLIP_L_PICTURES
from portraitlab.faces.clip.statistics import OPENAI_PIXELS, pixel_statistics
from portraitlab.support.hub import Repository, find_published, read_model


class ImagePrompt(Protocol):
    """A frozen encoder of images as words of a UNet's cross-attention.

    words: number of words of an image.
    """

    words: int

    def __call__(self, images: Tensor) -> Tensor:
        """Encode images [B, 3, H, W] in [-1, 1] as words [B, words, d]."""
        ...


class ClipImagePrompt(nn.Module):
    """CLIP ViT-L/14's projected embedding of an image as one word, as wide as SD1.5's text.

    weights: files of the model. folder: a folder with them; None uses the cache of `hf download`.
    pretrained: False builds it with random weights. device: device of the random weights; "meta"
    allocates none.

    Raises MissingPublished (a ValueError) where files are missing, ValueError for damaged ones.
    """

    words = 1
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        weights: Repository,
        folder: str | None = None,
        pretrained: bool = True,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        if pretrained:
            (place,) = find_published([(weights, folder)])
            mean, std = pixel_statistics(place / "preprocessor_config.json", weights.setting)
            net = read_model(CLIPVisionModelWithProjection, place, dtype=torch.float32)
        else:
            with torch.device(device):
                mean, std = (torch.tensor(each).view(3, 1, 1) for each in OPENAI_PIXELS)
                net = CLIPVisionModelWithProjection(CLIPVisionConfig(**CLIP_L_PICTURES))
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.net: Any = net
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Encode images [B, 3, H, W] in [-1, 1], RGB, as words [B, 1, 768]."""
        size = self.net.config.image_size
        sized = functional.interpolate(images, (size, size), mode="bicubic", antialias=True)
        pixels = ((sized.clamp(-1, 1) + 1) / 2 - self.mean) / self.std
        embedding: Tensor = self.net(pixels).image_embeds
        return embedding[:, None]
