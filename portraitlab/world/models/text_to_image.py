"""The world's text-to-image UNet and its noise schedule, of diffusers' classes."""

from __future__ import annotations

from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor

PROMPT_LENGTH = 48
CONFIG = {
    "sample_size": 16, "in_channels": 4, "out_channels": 4, "layers_per_block": 1,
    "block_out_channels": [64, 128, 128],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "cross_attention_dim": 128, "attention_head_dim": [2, 4, 4], "norm_num_groups": 16,
}  # fmt: skip
SCHEDULE = {
    "num_train_timesteps": 1000, "beta_schedule": "scaled_linear", "beta_start": 0.00085,
    "beta_end": 0.012, "prediction_type": "v_prediction", "clip_sample": False,
    "set_alpha_to_one": False, "steps_offset": 1, "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
}  # fmt: skip


def make_unet(config: dict = CONFIG) -> UNet2DConditionModel:
    """The UNet with random weights (seed torch first for repeatable ones)."""
    unet = UNet2DConditionModel(**config)
    # Over 64 tokens at most, plain products are no worse than the fused attention that diffusers
    # chooses, whose backward pass in bfloat16 is slow on a CPU.
    unet.set_attn_processor(AttnProcessor())
    return unet


def make_scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise levels, rescaled to zero signal at the last, v-prediction."""
    return DDIMScheduler(**SCHEDULE)
