"""An autoencoder that computes in the precision of its weights, whatever is around it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from portraitlab.backbone.precisions import without_autocast


class OwnPrecision(nn.Module):
    """diffusers' autoencoder outside of autocast; takes and gives single precision.

    SDXL's own weights overflow in float16, also where autocast alone brings it in.
    """

    def __init__(self, autoencoder: AutoencoderKL) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def encode(self, images: Tensor) -> Any:
        """`.latent_dist.mode()` of images [B, 3, H, W] in [-1, 1], and no other part of it.

        One by one: sixteen of 1024 px at once take 40 GiB, and one keeps a GPU busy.
        """
        with without_autocast(images.device):
            modes = [
                self.autoencoder.encode(one.to(self.autoencoder.dtype)).latent_dist.mode()
                for one in images.split(1)
            ]
        whole = torch.cat(modes).float()
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: whole))

    def decode(self, latents: Tensor) -> Any:
        """`.sample` [B, 3, H, W] of latents [B, c, h, w]."""
        with without_autocast(latents.device):
            sample = self.autoencoder.decode(latents.to(self.autoencoder.dtype)).sample
        return SimpleNamespace(sample=sample.float())
