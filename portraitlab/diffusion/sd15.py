"""Stable Diffusion 1.5 as the backbone (Rombach et al., 2022): 512 px, one text encoder."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from portraitlab.diffusion.architectures import CLIP_L, LATENT_DIFFUSION, SCHEDULE, SD15_UNET
from portraitlab.diffusion.backbone import Backbone
from portraitlab.diffusion.own_precision import OwnPrecision
from portraitlab.diffusion.precisions import precision_named, products_in
from portraitlab.diffusion.tokenizers import ClipTokens, WordNumbers, read_tokenizer
from portraitlab.support.hub import Repository, find_published, read_model


def load_sd15(
    weights: Repository,
    folder: str | None = None,
    variant: str | None = None,
    precision: str = "bfloat16",
    pretrained: bool = True,
    device: str = "cpu",
) -> Backbone:
    """Load the backbone with the published weights or, where not pretrained, with random ones.

    folder: a folder with the weights, in diffusers' layout; None uses the cache of `hf download`.
    variant: variant of the weight files, e.g. "fp16"; None, and files that exist only without it,
    use the plain ones. precision: precision of frozen weights and their products; the autoencoder
    computes in single precision. device: device of random weights; "meta" allocates none.

    Raises MissingPublished (a ValueError) where weights are missing, ValueError where a file is
    damaged or for an unknown precision.
    """
    # Build it with random weights.
    dtype = precision_named(precision)
    if not pretrained:
        with torch.device(device):
            return Backbone(
                unet=products_in(UNet2DConditionModel(**SD15_UNET), dtype),
                autoencoder=OwnPrecision(AutoencoderKL(**LATENT_DIFFUSION, sample_size=512)),
                text_encoder=CLIPTextModel(CLIPTextConfig(**CLIP_L)).to(dtype),
                tokenizer=WordNumbers(),
                scheduler=DDIMScheduler(**SCHEDULE),
                latent_scale=0.18215,
                precision=dtype,
            )
    # Read the published weights.
    (place,) = find_published([(weights.in_variant(variant, folder), folder)])
    unet = read_model(UNet2DConditionModel, place / "unet", as_stored=True, variant=variant)
    autoencoder = read_model(AutoencoderKL, place / "vae", variant=variant)
    return Backbone(
        unet=products_in(unet, dtype),
        autoencoder=OwnPrecision(autoencoder),
        text_encoder=read_model(
            CLIPTextModel, place / "text_encoder", variant=variant, dtype=dtype
        ),
        tokenizer=ClipTokens(read_tokenizer(place / "tokenizer")),
        scheduler=DDIMScheduler.from_pretrained(place / "scheduler"),
        latent_scale=autoencoder.config.scaling_factor,
        precision=dtype,
    )
