"""Read the pixel normalisation that a published image encoder was trained with."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

OPENAI_PIXELS = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Mean and deviation of OpenAI's CLIP, for models without its files."""


def pixel_statistics(path: Path, setting: str) -> tuple[Tensor, Tensor]:
    """Read mean and deviation [3, 1, 1] of pixels in [0, 1] from a `preprocessor_config.json`.

    setting: the setting that names the folder, for errors. Raises ValueError where the file does
    not have them for three channels.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        mean, std = (
            torch.tensor(config[f"image_{name}"]).view(3, 1, 1) for name in ("mean", "std")
        )
        if not (std > 0).all():
            raise ValueError("a deviation that is not above 0")
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"{path} has no image_mean and image_std for three channels: {error!r}. Fetch it "
            f"again, or give another {setting}."
        ) from error
    return mean, std
