"""The edition of the foundation that a configuration loads, for the keys of runs."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

LOADED: dict[str, tuple[str, ...]] = {
    "load_backbone": ("autoencoder", "text_to_image"),
    "load_canvas_backbone": ("autoencoder", "canvas"),
    "load_canvas_controlnet": ("autoencoder", "canvas", "canvas_controlnet"),
    "load_clip": ("clip",),
    "load_controlnet": ("controlnet",),
    "load_attention_start": ("attention_start",),
    "load_detector": ("detector",),
    "load_dino": ("dino",),
    "load_image_prompt": ("canvas", "clip"),
    "load_light": ("light",),
    "load_matching_net": ("autoencoder", "canvas", "matching"),
    "load_quality": ("quality",),
    "load_recogniser": (),
    "load_regressor": ("regressor",),
    "load_restorer": ("restorer",),
    "load_student": ("autoencoder", "student", "text_to_image"),
}
"""Models that each loader of portraitlab.world.pretrained reads, unless it is given a `name`."""


def edition(loader: str, name: str | None = None) -> str | None:
    """Hash the weights that a loader reads to eight hexadecimal digits; None for no loader.

    name: the loader's argument of this name. Weights that are not shipped count as empty.
    """
    if loader not in LOADED:
        return None
    names = LOADED[loader] if name is None else (name,)
    sums = [_listing().get(each, {}).get("sha256", "") for each in names]
    return hashlib.sha256("".join(sums).encode()).hexdigest()[:8]


@cache
def _listing() -> dict[str, Any]:
    path = Path(__file__).parents[1] / "world" / "weights" / "foundation.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
