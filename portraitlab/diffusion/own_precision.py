"""An autoencoder that computes in the precision of its weights, even inside autocast."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from portraitlab.support.precision import without_autocast


class OwnPrecision(nn.Module):
    """diffusers' autoencoder without autocast; inputs and outputs are in single precision.

    SDXL's original weights overflow in float16, even where only autocast introduces it.
    """

    def __init__(self, autoencoder: AutoencoderKL) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def encode(self, images: Tensor) -> Any:
        """Encode images [B, 3, H, W] in [-1, 1]; only `.latent_dist.mode()` of the result exists.

        Images are encoded one by one: sixteen of 1024 px at once take 40 GiB, and one already
        occupies a GPU.
        """
        with without_autocast(images.device):
            modes = [
                self.autoencoder.encode(one.to(self.autoencoder.dtype)).latent_dist.mode()
                for one in images.split(1)
            ]
        whole = torch.cat(modes).float()
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: whole))

    def decode(self, latents: Tensor) -> Any:
        """Decode latents [B, c, h, w] to `.sample` [B, 3, H, W]."""
        with without_autocast(latents.device):
            sample = self.autoencoder.decode(latents.to(self.autoencoder.dtype)).sample
        return SimpleNamespace(sample=sample.float())
