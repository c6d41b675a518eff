"""Format the figures of a table: names and units of metrics, decimals and signs."""

from __future__ import annotations

import re
from collections.abc import Iterable

_PAPER_NAMES = {
    "sim_f": "Sim_f",
    "clip_f": "CLIP_f",
    "exp": "Exp",
    "pose": "Pose",
    "fid": "FID",
    "face_fid": "FID of faces",
    "clip_t": "CLIP_t",
    "clip_i": "CLIP_i",
    "dino": "DINO",
    "copy_paste": "Copy-paste",
    "rank1": "Rank 1",
    "stability": "Stability",
    "intrusion": "Intrusion",
    "spread": "Spread",
    "seconds": "Seconds",
    "unet_calls": "UNet calls",
    "memory": "Memory",
    "sim_min": "Min",
    "sim_max": "Max",
    "sim_median": "Median",
    "yaw": "Yaw",
    "shading": "Shading",
    "shading_error": "Shading error",
    "shading_error_scaled": "Scaled shading error",
    "light": "Light",
}
_MATCH = re.compile(r"((?:face_)?error|within_\d+)_([\d.]+)(?:_of_([\d.]+))?")
_UNITS = {
    "sim_f": "cosine",
    "clip_f": "cosine",
    "exp": "standard deviations of a coefficient",
    "pose": "radians",
    "fid": "Fréchet distance",
    "face_fid": "Fréchet distance",
    "clip_t": "cosine",
    "clip_i": "cosine",
    "dino": "cosine",
    "copy_paste": "share of the angle to a reference",
    "rank1": "share of people",
    "stability": "cosine",
    "intrusion": "cosine",
    "spread": "cosine",
    "seconds": "seconds a picture",
    "unet_calls": "calls a picture",
    "memory": "GB of a GPU",
    "sim_min": "cosine",
    "sim_max": "cosine",
    "sim_median": "cosine",
    "yaw": "degrees",
    "shading": "correlation",
    "shading_error": "luminance, 0 to 1",
    "shading_error_scaled": "luminance, 0 to 1",
    "light": "degrees",
}


def metric_name(metric: str) -> str:
    """Return a metric's name in the papers, or ours for a metric that is in none of them."""
    return _PAPER_NAMES.get(metric) or _match_name(metric) or metric


def _match_name(metric: str) -> str | None:
    """Name a metric of task=match (scoring/matching.py), such as error_30_of_20."""
    found = _MATCH.fullmatch(metric)
    if found is None:
        return None
    name, degrees, share = found.groups()
    title = name.replace("_", " ").capitalize()
    return f"{title}, {degrees}°" + ("" if share is None else f", {share} % of pixels")


def unit(metric: str) -> str:
    """Return the unit of our figures of a metric, empty if unknown; the papers' units differ."""
    if (found := _MATCH.fullmatch(metric)) is not None:
        return "share of cells" if found[1].startswith("within") else "cells"
    return _UNITS.get(metric, "")


def decimals(means: Iterable[float]) -> int:
    """Choose a metric's decimals: three, or four if a mean would have only two digits."""
    return 4 if any(0 < abs(mean) < 0.1 for mean in means) else 3


def signed(value: float, digits: int) -> str:
    """Format a value with its sign, a true minus instead of a hyphen."""
    return f"{value:+.{digits}f}".replace("-", "−")
