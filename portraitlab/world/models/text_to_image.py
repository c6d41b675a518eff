"""The world's text-to-image models, of diffusers' and transformers' classes, and their schedule."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from diffusers.models.embeddings import ImageProjection
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from portraitlab.world.models.clip import ClipEncoder
from portraitlab.world.tokenizer import CANVAS_VOCABULARY, END, PAD, START, WordTokenizer

PROMPT_LENGTH = 76
UNET_CONFIG = {
    "sample_size": 16, "in_channels": 4, "out_channels": 4, "layers_per_block": 1,
    "block_out_channels": [64, 128, 128],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "cross_attention_dim": 128, "attention_head_dim": [2, 4, 4], "norm_num_groups": 16,
}  # fmt: skip
TEXT_CONFIG = {
    "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": PROMPT_LENGTH, "vocab_size": WordTokenizer(PROMPT_LENGTH).size,
    "bos_token_id": START, "eos_token_id": END, "pad_token_id": PAD,
}  # fmt: skip
CONFIG = {"unet": UNET_CONFIG, "text_encoder": TEXT_CONFIG}
CANVAS_CONFIG = {
    "unet": {**UNET_CONFIG, "sample_size": 32},
    "text_encoder": {
        **TEXT_CONFIG, "vocab_size": WordTokenizer(PROMPT_LENGTH, CANVAS_VOCABULARY).size,
    },
    "image_prompt": {
        "image_embed_dim": 96, "cross_attention_dim": 128, "num_image_text_embeds": 4,
    },
}  # fmt: skip
SCHEDULE = {
    "num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "v_prediction", "clip_sample": False,
    "set_alpha_to_one": False, "steps_offset": 1, "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
}  # fmt: skip


class TextToImage(nn.Module):
    """A UNet and the text encoder that is trained with it (Rombach et al., CVPR 2022, Sec. 3.3).

    The CLIP-like model's text encoder is not used: words differ by 1 % of its features' squared
    norm, and a UNet that reads them learns names of clothes but not of a person's looks.
    """

    def __init__(self, config: dict[str, Any] = CONFIG) -> None:
        super().__init__()
        self.unet = UNet2DConditionModel(**config["unet"])
        # For up to 76 tokens plain products are as fast as diffusers' fused attention, whose
        # backward pass in bfloat16 is slow on a CPU.
        self.unet.set_attn_processor(AttnProcessor())
        self.text_encoder = CLIPTextModel(CLIPTextConfig(**config["text_encoder"]))

    def forward(self, noisy: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        """Predict velocities [B, 4, 16, 16] of noisy latents at timesteps [B], by tokens [B, K]."""
        text = self.text_encoder(input_ids=tokens).last_hidden_state
        return self.unet(noisy, timesteps, text).sample


class CanvasTextToImage(TextToImage):
    """The model of the larger canvas, which is conditioned on a text or on an image in its place.

    image_prompt: projects CLIP's embedding of an image to a few tokens as IP-Adapter does (Ye et
    al., 2023, Sec. 3.2.1); IC-Portrait's backbone is conditioned on images this way.
    """

    def __init__(self, config: dict[str, Any] = CANVAS_CONFIG) -> None:
        super().__init__(config)
        self.image_prompt = ImageProjection(**config["image_prompt"])

    def forward(
        self,
        noisy: Tensor,
        timesteps: Tensor,
        tokens: Tensor | None = None,
        images: Tensor | None = None,
    ) -> Tensor:
        """Predict the velocity [B, 4, 32, 32] from tokens [B, K] or image embeddings [B, 96]."""
        if images is None:
            assert tokens is not None
            return super().forward(noisy, timesteps, tokens)
        return self.unet(noisy, timesteps, self.image_prompt(images)).sample


class CanvasImagePrompt(nn.Module):
    """The frozen encoder of images as words of the larger canvas's cross-attention."""

    def __init__(self, clip: ClipEncoder, projection: ImageProjection) -> None:
        super().__init__()
        self.clip = clip
        self.projection = projection
        self.words = projection.num_image_text_embeds
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Encode images [B, 3, H, W] in [-1, 1] as words [B, 4, 128]."""
        words: Tensor = self.projection(self.clip.image_embedding(images))
        return words


def grow_canvas(portrait: TextToImage) -> CanvasTextToImage:
    """Build the larger canvas's model from the portraits' weights; new words start at random."""
    canvas = CanvasTextToImage()
    own, given = canvas.state_dict(), portrait.state_dict()
    (words,) = (name for name in given if name.endswith("token_embedding.weight"))
    known = given.pop(words)
    own[words][: len(known)] = known
    canvas.load_state_dict(own | given)
    return canvas


def make_scheduler() -> DDIMScheduler:
    """Build the cosine schedule down to zero signal, with v-prediction.

    Nichol and Dhariwal (ICML 2021, Sec. 3.2). Stable Diffusion's noise levels are made for sixteen
    times as many latents: at half of them nothing is left of a face that is a dozen cells wide.
    """
    return DDIMScheduler(**SCHEDULE)
