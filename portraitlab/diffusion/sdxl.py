"""SDXL as the backbone (Podell et al., 2023): 1024 px, two text encoders, size conditioning."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file
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
    """A backbone whose text features are those of two text encoders, concatenated.

    The second also gives the pooled embedding. The size conditioning is that of uncropped images of
    the drawn size. text_encoder_2, tokenizer_2: the second text encoder. All else: see Backbone.

    Raises ValueError for a UNet that reads text of another width, as of another model's checkpoint.
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
        widths = self.text_encoder.config.hidden_size, text_encoder_2.config.hidden_size
        if sum(widths) != self.text_dim:
            raise ValueError(
                f"This checkpoint's UNet reads text of width {self.text_dim}, and its encoders "
                f"of text give {widths[0]} + {widths[1]}: it is not of SDXL's size. Give one of "
                "SDXL, turbo or not, by backbone.folder."
            )

    def encode_text(self, prompts: list[str]) -> TextFeatures:
        """Encode prompts as text features [B], K = 77 tokens of dt = 768 + 1280 numbers.

        Returns the features before the last layer (Sec. 2.1). Those of an empty prompt are zero, as
        in the published pipeline (force_zeros_for_empty_prompt).
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
        nonempty = torch.tensor([bool(prompt) for prompt in prompts], device=device)
        words = torch.cat([one.hidden_states[-2], two.hidden_states[-2]], dim=-1).float()
        size = self.image_size
        sizes = [size, size, 0, 0, size, size]  # original, crop's corner, and target (Sec. 2.2)
        all_sizes = torch.tensor([sizes], dtype=torch.float32, device=device)
        return TextFeatures(
            words=words * nonempty[:, None, None],
            pooled=two.text_embeds.float() * nonempty[:, None],
            sizes=all_sizes.expand(len(prompts), -1),
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
    """Load the backbone with the published weights or, where not pretrained, with random ones.

    folder: a folder with the weights, in diffusers' layout; None uses the cache of `hf download`.
    autoencoder_weights, autoencoder_folder: files of an autoencoder that also works in float16; it
    computes in single precision. variant: variant of the weight files, e.g. "fp16"; None, and files
    that exist only without it, use the plain ones. precision: precision of frozen weights and their
    products. device: device of random weights; "meta" allocates none.

    Raises MissingPublished (a ValueError) where weights are missing, ValueError where a file is
    damaged or for an unknown precision.
    """
    # Build it with random weights.
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
    # Read the published weights.
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


def load_sdxl_student(
    weights: Repository,
    folder: str | None = None,
    precision: str = "bfloat16",
    pretrained: bool = True,
) -> UNet2DConditionModel:
    """Load a frozen UNet of SDXL's architecture that draws in few steps without guidance.

    weights: one file with all of its weights, as SDXL-Lightning publishes them. The other settings
    are those of load_sdxl; not pretrained, the weights are random.

    Raises MissingPublished (a ValueError) where the file is missing, ValueError where it is of
    another architecture.
    """
    dtype = precision_named(precision)
    if not pretrained:
        return products_in(UNet2DConditionModel(**SDXL_UNET), dtype).requires_grad_(False)
    (place,) = find_published([(weights, folder)])
    (name,) = weights.files
    with torch.device("meta"):
        unet = UNet2DConditionModel(**SDXL_UNET)
    try:
        unet.load_state_dict(load_file(place / name), assign=True)
    except RuntimeError as error:
        raise ValueError(
            f"{place / name} is not a whole UNet of SDXL; give SDXL-Lightning's `unet` file, not "
            "its LoRA."
        ) from error
    return products_in(unet, dtype).requires_grad_(False).eval()
