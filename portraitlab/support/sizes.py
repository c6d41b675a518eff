"""Choose a component's size by the scale, so that its file in conf/ has all of its sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig


def by_scale(sizes: Mapping[str, Any], _root_: DictConfig) -> Any:
    """Resolve `${by_scale:{smoke: 2, mini: 16, sd15: 32, sdxl: 32}}` to the chosen scale's size.

    Raises:
        ValueError: there is no size for the chosen scale.
    """
    scale = _root_.choices.scale
    if scale not in sizes:
        raise ValueError(
            f"scale={scale} is not among the sizes {', '.join(sizes)}: add it to by_scale in the "
            "choice's file in conf/"
        )
    return sizes[scale]
