"""The world's autoencoder: diffusers' AutoencoderKL behind a pixel-unshuffle."""

from __future__ import annotations

from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from torch import Tensor, nn
from torch.nn import functional

CONFIG = {
    "in_channels": 12,
    "out_channels": 12,
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "block_out_channels": [48, 80],
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 16,
    "mid_block_add_attention": False,
}


class UnshuffledAutoencoder(nn.Module):
    """An autoencoder of 64 px images and 4 x 16 x 16 latents, with diffusers' interface.

    A pixel-unshuffle by 2 avoids the convolutions at full resolution, which would take most of the
    time on a CPU.
    """

    def __init__(self, config: dict = CONFIG) -> None:
        super().__init__()
        self.inner = AutoencoderKL(**config)

    def encode(self, images: Tensor) -> AutoencoderKLOutput:
        """Encode images [B, 3, H, W] in [-1, 1] to `.latent_dist` over [B, 4, H/4, W/4]."""
        return self.inner.encode(functional.pixel_unshuffle(images, 2))

    def decode(self, latents: Tensor) -> DecoderOutput:
        """Decode latents [B, 4, h, w] to `.sample` [B, 3, 4h, 4w], about [-1, 1]."""
        return DecoderOutput(sample=functional.pixel_shuffle(self.inner.decode(latents).sample, 2))
