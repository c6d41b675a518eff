"""SDXL as the backbone (Podell et al., 2023): 1024 px, two text encoders, sizes are told."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
)

from portraitlab.diffusion.architectures import (
    CLIP_BIG_G,
    CLIP_L,
    LATENT_DIFFUSION,
    SCHEDULE,
    SDXL_UNET,
)
from portraitlab.diffusion.backbone import Backbone, Tokenizer
from portraitlab.diffusion.own_precision import OwnPrecision
from portraitlab.diffusion.precisions import precision_named, products_in
from portraitlab.diffusion.tokenizers import ClipTokens, WordNumbers, read_tokenizer
from portraitlab.support.hub import Repository, find_published, read_model
from portraitlab.types import TextFeatures


class SDXL(Backbone):
    """A backbone whose words are those of two text encoders, side by side.

    The second also gives the pooled summary. Portraits are drawn as of whole pictures of the size
    that is drawn. text_encoder_2, tokenizer_2: the second. All else as for Backbone.
    """

    empty_prompt_is_zero = True

    def __init__(
        self,
        *,
        text_encoder_2: CLIPTextModelWithProjection,
        tokenizer_2: Tokenizer,
        **parts: Any,
    ) -> None:
        super().__init__(**parts)
        self.text_encoder_2 = text_encoder_2.requires_grad_(False).eval()
        self.tokenizer_2 = tokenizer_2

    def encode_text(self, prompts: list[str]) -> TextFeatures:
        """Prompts to text features [B], K = 77 words of dt = 768 + 1280 numbers.

        The features before the last layer (Sec. 2.1). An empty prompt's are zero, as in the
        published pipeline (force_zeros_for_empty_prompt).
        """
        device = self.latent_scale.device
        with torch.no_grad():
            one, two = (
                encoder(input_ids=tokenizer(prompts).to(device), output_hidden_states=True)
                for encoder, tokenizer in (
                    (self.text_encoder, self.tokenizer),
                    (self.text_encoder_2, self.tokenizer_2),
                )
            )
        told = torch.tensor([bool(prompt) for prompt in prompts], device=device)
        words = torch.cat([one.hidden_states[-2], two.hidden_states[-2]], dim=-1).float()
        size = self.image_size
        sizes = [size, size, 0, 0, size, size]  # original, corner of the crop, and drawn (Sec. 2.2)
        return TextFeatures(
            words=words * told[:, None, None],
            pooled=two.text_embeds.float() * told[:, None],
            sizes=torch.tensor([sizes], dtype=torch.float32, device=device).expand(len(told), -1),
        )


def load_sdxl(
    weights: Repository,
    autoencoder_weights: Repository,
    folder: str | None = None,
    autoencoder_folder: str | None = None,
    variant: str | None = None,
    precision: str = "bfloat16",
    pretrained: bool = True,
    device: str = "cpu",
) -> SDXL:
    """The backbone, with the published weights or, where not pretrained, random ones.

    folder: has the weights, in diffusers' layout; None looks where `hf download` puts them.
    autoencoder_weights, autoencoder_folder: of an autoencoder that computes in float16 too; it is
    used in single precision. variant: of the weight files ("fp16"); None, and what a folder has
    without it, is the plain ones. precision: of the frozen weights; products are computed in it.
    device: where random weights are made; "meta" makes none.

    Raises MissingPublished (a ValueError) where weights are missing, ValueError where a file is
    damaged or for an unknown precision.
    """
    dtype = precision_named(precision)
    if not pretrained:
        with torch.device(device):
            second = CLIPTextModelWithProjection(CLIPTextConfig(**CLIP_BIG_G))
            return SDXL(
                unet=products_in(UNet2DConditionModel(**SDXL_UNET), dtype),
                autoencoder=OwnPrecision(AutoencoderKL(**LATENT_DIFFUSION, sample_size=1024)),
                text_encoder=CLIPTextModel(CLIPTextConfig(**CLIP_L)).to(dtype),
                text_encoder_2=second.to(dtype),
                tokenizer=WordNumbers(),
                tokenizer_2=WordNumbers(pad=0),
                scheduler=DDIMScheduler(**SCHEDULE),
                latent_scale=0.13025,
                precision=dtype,
            )
    place, autoencoder_place = find_published(
        [(weights.in_variant(variant, folder), folder), (autoencoder_weights, autoencoder_folder)]
    )
    unet = read_model(UNet2DConditionModel, place / "unet", as_stored=True, variant=variant)
    autoencoder = read_model(AutoencoderKL, autoencoder_place)
    return SDXL(
        unet=products_in(unet, dtype),
        autoencoder=OwnPrecision(autoencoder),
        text_encoder=read_model(
            CLIPTextModel, place / "text_encoder", variant=variant, dtype=dtype
        ),
        text_encoder_2=read_model(
            CLIPTextModelWithProjection, place / "text_encoder_2", variant=variant, dtype=dtype
        ),
        tokenizer=ClipTokens(read_tokenizer(place / "tokenizer")),
        tokenizer_2=ClipTokens(read_tokenizer(place / "tokenizer_2")),
        scheduler=DDIMScheduler.from_pretrained(place / "scheduler"),
        latent_scale=autoencoder.config.scaling_factor,
        precision=dtype,
    )
