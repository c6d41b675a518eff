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
    """The backbone, with the published weights or, where not pretrained, random ones.

    folder: has the weights, in diffusers' layout; None looks where `hf download` puts them.
    variant: of the weight files ("fp16"); None, and what a folder has without it, is the plain
    ones. precision: of the frozen weights; products are computed in it, the autoencoder in single
    precision. device: where random weights are made; "meta" makes none.

    Raises MissingPublished (a ValueError) where weights are missing, ValueError where a file is
    damaged or for an unknown precision.
    """
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
