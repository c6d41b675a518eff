"""Low-rank weights that let the portraits' UNet draw in four steps without guidance."""

from __future__ import annotations

from typing import Any

from diffusers import UNet2DConditionModel
from peft import LoraConfig

STEPS = 4
CONFIG: dict[str, Any] = {
    "r": 16,
    "lora_alpha": 16,
    "target_modules": [
        "to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2",
        "conv1", "conv2", "conv_shortcut", "conv", "time_emb_proj",
    ],
}  # fmt: skip
"""LoRA (Hu et al., ICLR 2022) on attention and convolutions, as SDXL-Lightning is published."""


def add_low_rank(unet: UNet2DConditionModel, config: dict[str, Any] = CONFIG) -> None:
    """Add low-rank weights, which are zero before training, and freeze all other weights."""
    unet.requires_grad_(False)
    unet.add_adapter(LoraConfig(**config))
