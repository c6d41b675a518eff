"""What reading published weights of all backbones has in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

_PRECISIONS = {
    "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16
}  # fmt: skip


def precision_named(name: str, setting: str = "backbone.precision") -> torch.dtype:
    """A precision by its name. Raises ValueError for one that is not known, with the setting."""
    if name not in _PRECISIONS:
        raise ValueError(f"{setting}={name}: choose one of {', '.join(_PRECISIONS)}")
    return _PRECISIONS[name]


def products_in(model: nn.Module, precision: torch.dtype) -> Any:
    """The model with the weights of its products in a precision, those of its norms in single.

    As autocast would have them at each product, but cast once.
    """
    for part in model.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            part.to(precision)
    return model


def read_model(kind: Any, folder: Path, **how: Any) -> Any:
    """A model of diffusers or transformers with the safetensors weights of a folder, all of them.

    kind: its class. how: what its from_pretrained takes besides. Raises ValueError where a file is
    damaged, or lacks weights, which both libraries would fill with random ones.
    """
    try:
        model, told = kind.from_pretrained(
            folder, use_safetensors=True, output_loading_info=True, local_files_only=True, **how
        )
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"The weights in {folder} cannot be read ({error}). Delete the damaged file and fetch "
            "it again."
        ) from error
    wrong = [*told["missing_keys"], *told.get("mismatched_keys", [])]
    if wrong:
        raise ValueError(
            f"The weights in {folder} are not those of a {kind.__name__}: {len(wrong)} are missing "
            f"or of another shape, first {wrong[0]}. Fetch them again, or give another folder."
        )
    return model
