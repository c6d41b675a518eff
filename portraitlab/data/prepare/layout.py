"""Where things lie in a prepared store, and what it was begun with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from portraitlab.data.features import Frozen
from portraitlab.data.prepare.shards import FORMAT
from portraitlab.faces.matting.base import Matting
from portraitlab.support.files import read_json, write_json
from portraitlab.support.hashes import weights_fingerprint

_OPTIONS = ("precision", "shard", "batch")
"""Settings that `portraitlab data prepare` is given by options, and not by overrides."""


def listing_file(out: Path, number: int) -> Path:
    """The file of what was new in the folder of photos when it was listed this time."""
    return out / "plan" / f"{number:06}.arrow"


def photo_shard(out: Path, number: int) -> Path:
    """The file of a shard of photos."""
    return out / "photos" / f"{number:06}.arrow"


def caption_shard(out: Path, number: int) -> Path:
    """The file of a shard of captions."""
    return out / "captions" / f"{number:06}.arrow"


def taken_settings(frozen: Frozen, matting: Matting, minimum_side: int) -> dict[str, Any]:
    """What must be the same where photos are prepared and trained on."""
    return {
        "encoder": frozen.encoder.fingerprint,
        "backbone": frozen.backbone.fingerprint,
        "recogniser": weights_fingerprint(frozen.recogniser),
        "size": frozen.backbone.image_size,
        "view_size": frozen.encoder.image_size,
        "matting": matting.fingerprint,
        "minimum_side": minimum_side,
    }


def trained_with(overrides: Sequence[str]) -> list[str]:
    """Those overrides of a preparation that training from it is given too.

    Of data=folder that is the least size, which whoever draws goes by: captions are stored.
    """
    return [
        each
        for each in overrides
        if not each.startswith(("data=", "data.")) or each.startswith("data.minimum_side=")
    ]


def begin(out: Path, settings: dict[str, Any], overrides: Sequence[str]) -> None:
    """Note what a store is begun with, or see that it is gone on with the same.

    settings: plain values by name. overrides: what chose them, for people. Raises ValueError where
    the folder holds something else, or was begun otherwise.
    """
    about = read_json(out / "about.json")
    if about is None:
        if out.exists() and any(out.iterdir()):
            raise ValueError(
                f"{out} is not empty and holds no prepared photos; give a new or an empty folder."
            )
        about = {"format": FORMAT, "settings": settings, "overrides": list(overrides)}
        write_json(out / "about.json", about)
    if about.get("format") != FORMAT:
        raise ValueError(
            f"{out} has format {about.get('format')}, and {FORMAT} is written now; give another "
            "folder."
        )
    before = about["settings"]
    other = [name for name in settings if settings[name] != before.get(name)]
    if other:
        said = "; ".join(
            f"{'--' if name in _OPTIONS else ''}{name} was {_short(before.get(name))} and is "
            f"{_short(settings[name])}"
            for name in other
        )
        options = [f"--{name} {before[name]}" for name in other if name in _OPTIONS]
        raise ValueError(
            f"{out} was begun otherwise: {said}. Go on with what it was begun with"
            f" ({' '.join([*options, *about['overrides']]) or 'no overrides'}), or give another "
            "folder."
        )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:12]}…{text[-8:]}"
