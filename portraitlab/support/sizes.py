"""Choose a component's size by the scale, so that its choice has all of its sizes beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig


def by_scale(sizes: Mapping[str, Any], _root_: DictConfig) -> Any:
    """Resolve `${by_scale:{smoke: 2, mini: 16, sd15: 32, sdxl: 32}}` to the chosen scale's size.

    Raises:
        ValueError: the sizes have none for the chosen scale.
    """
    scale = _root_.choices.scale
    if scale not in sizes:
        raise ValueError(
            f"scale={scale} is not among the sizes {', '.join(sizes)}: add one to the choice's "
            "by_scale in conf/"
        )
    return sizes[scale]
