"""How the figures of a table are written."""

from __future__ import annotations

from collections.abc import Iterable

_PAPER_NAMES = {
    "sim_f": "Sim_f",
    "clip_f": "CLIP_f",
    "exp": "Exp",
    "pose": "Pose",
    "fid": "FID",
    "clip_t": "CLIP_t",
    "copy_paste": "Copy-paste",
    "rank1": "Rank 1",
    "intrusion": "Intrusion",
    "spread": "Spread",
}
_UNITS = {
    "sim_f": "cosine",
    "clip_f": "cosine",
    "exp": "standard deviations of a coefficient",
    "pose": "radians",
    "fid": "Fréchet distance",
    "clip_t": "cosine",
    "copy_paste": "share of the angle to a reference",
    "rank1": "share of people",
    "intrusion": "cosine",
    "spread": "cosine",
}


def metric_name(metric: str) -> str:
    """As the papers write it, where they have it."""
    return _PAPER_NAMES.get(metric, metric)


def unit(metric: str) -> str:
    """What our figures of a metric are in, empty where it is not known; the papers' differ."""
    return _UNITS.get(metric, "")


def decimals(means: Iterable[float]) -> int:
    """How many to write of a metric: three, or four where three would leave a mean two digits."""
    return 4 if any(0 < abs(mean) < 0.1 for mean in means) else 3


def signed(value: float, digits: int) -> str:
    """With its sign, which is a minus and no hyphen."""
    return f"{value:+.{digits}f}".replace("-", "−")
