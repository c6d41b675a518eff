"""CLIP's image encoders (Radford et al., ICML 2021), published weights through transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from portraitlab.alignment import WIDE, Frame
from portraitlab.weights import is_pointer

_FILES = ("config.json", "preprocessor_config.json", "model.safetensors")

Tokens = Literal["penultimate", "last", "pooled"]


class ClipVision(nn.Module):
    """Patch tokens of crops by a CLIP ViT; frozen. Its crop size is the weights' own.

    repository and revision: of the Hugging Face hub, looked up in the local cache, never fetched;
    size and licence are told to who lacks them. folder: a folder of the same three files instead.
    tokens: `penultimate`, all tokens (class token first) before the last layer; `last`, after it;
    `pooled`, the class token alone after the final norm (L = 1).

    Raises ValueError where weights are missing, cut off or of another model.
    """

    frame: Frame = WIDE
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        repository: str,
        revision: str,
        size: str,
        licence: str,
        folder: str | None = None,
        tokens: Tokens = "penultimate",
    ) -> None:
        super().__init__()
        if tokens not in get_args(Tokens):
            raise ValueError(
                f"clip.tokens={tokens!r} is unknown; choose {_listed(get_args(Tokens))}."
            )
        remedy = (
            f"{repository} ({size}, {licence}) is fetched by `hf download {repository} "
            f"{' '.join(_FILES)} --revision {revision}`; or give clip.folder=FOLDER, a folder with "
            f"{_listed(_FILES)}."
        )
        place = _cached(repository, revision) if folder is None else Path(folder).expanduser()
        lacking = [name for name in _FILES if place is None or not (place / name).is_file()]
        if place is None or lacking:
            where = (
                f"clip.folder={folder}" if folder else f"the hub's cache, at revision {revision},"
            )
            raise ValueError(f"{where} lacks {_listed(lacking)} of {repository}. {remedy}")
        mean, std = _pixel_statistics(place / _FILES[1], remedy)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.net = _load(place, remedy)
        self.tokens = tokens
        if tokens == "penultimate":  # what comes after would be computed for nothing
            del self.net.encoder.layers[-1]
        vision = self.net.config
        self.crop_size = int(vision.image_size)
        self.local_dim = int(vision.hidden_size)
        patches = (vision.image_size // vision.patch_size) ** 2
        self.local_length = 1 if tokens == "pooled" else patches + 1
        # The choice of tokens decides the features as much as weights do: caches must know it.
        self.register_buffer("chosen", torch.tensor(get_args(Tokens).index(tokens)))
        self.eval().requires_grad_(False)

    def patch_tokens(self, images: Tensor) -> Tensor:
        """Tokens [B, L, local_dim] of crops [B, 3, crop_size, crop_size] in [-1, 1], RGB."""
        pixels = ((images + 1) / 2 - self.mean) / self.std
        output = self.net(pixels)
        pooled = self.tokens == "pooled"
        tokens: Tensor = output.pooler_output[:, None] if pooled else output.last_hidden_state
        return tokens


def _listed(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(names)


def _cached(repository: str, revision: str) -> Path | None:
    """The snapshot's folder in the hub's cache, None where not even its configuration is there."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, _FILES[0], revision=revision)
    return Path(found).parent if isinstance(found, str) else None


def _pixel_statistics(path: Path, remedy: str) -> tuple[Tensor, Tensor]:
    """Mean and deviation [3, 1, 1] of pixels in [0, 1] that the weights were trained with."""
    try:
        seen = json.loads(path.read_text(encoding="utf-8"))
        mean, std = (torch.tensor(seen[f"image_{name}"]).view(3, 1, 1) for name in ("mean", "std"))
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"{path} does not tell image_mean and image_std of three channels: {error!r}. {remedy}"
        ) from error
    return mean, std


def _load(place: Path, remedy: str) -> Any:
    """The vision part of what lies in a folder; a text part beside it is left out."""
    from safetensors import SafetensorError
    from transformers import CLIPVisionModel
    from transformers.utils import logging

    weights = place / _FILES[-1]
    if is_pointer(weights):
        raise ValueError(f"{weights} is a Git LFS pointer, not weights. {remedy}")
    level = logging.get_verbosity()
    logging.set_verbosity_error()  # a published CLIP has a text part, and each tensor is told of
    try:
        net, loaded = CLIPVisionModel.from_pretrained(
            place, local_files_only=True, use_safetensors=True, dtype=torch.float32,
            output_loading_info=True,
        )  # fmt: skip
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{weights} ({weights.stat().st_size} bytes) cannot be read: {reason}. {remedy}"
        ) from error
    finally:
        logging.set_verbosity(level)
    if loaded["missing_keys"]:
        missing = sorted(loaded["missing_keys"])
        raise ValueError(
            f"{weights} is no CLIP image encoder: it lacks {len(missing)} tensors, "
            f"first {missing[0]}. {remedy}"
        )
    return net
