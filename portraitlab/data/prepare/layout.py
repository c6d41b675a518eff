"""Files of a prepared store, and the settings that it was created with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from typing_extensions import TypedDict

from portraitlab.data.features import Frozen
from portraitlab.data.shards import FORMAT, check_format
from portraitlab.faces.matting.base import Matting
from portraitlab.support.files import read_json, write_json
from portraitlab.support.hashes import weights_fingerprint


class About(TypedDict):
    """Schema of about.json, which a store is created with."""

    format: int
    settings: dict[str, Any]
    overrides: list[str]


class Finished(TypedDict):
    """Schema of finished.json, which is written last."""

    photos: int
    captions: int
    photo_shards: int
    caption_shards: int


_OPTIONS = ("precision", "shard", "batch")
"""Settings of `portraitlab data prepare` that are options, not overrides."""


def shard_file(out: Path, kind: Literal["plan", "photos", "captions"], number: int) -> Path:
    """Return the file of a shard; one of the plan lists the photos that were new at a time."""
    return out / kind / f"{number:06}.arrow"


def store_settings(frozen: Frozen, matting: Matting, minimum_side: int) -> dict[str, Any]:
    """Return the settings that must be the same in preparation and training."""
    return {
        "encoder": frozen.encoder.fingerprint,
        "backbone": frozen.backbone.fingerprint,
        "recogniser": weights_fingerprint(frozen.recogniser),
        "size": frozen.backbone.image_size,
        "view_size": frozen.encoder.image_size,
        "matting": matting.fingerprint,
        "minimum_side": minimum_side,
    }


def training_overrides(overrides: Sequence[str]) -> list[str]:
    """Select the overrides of a preparation that training from it needs too.

    Of data=folder that is only minimum_side, by which an export checks photos; captions are stored.
    """
    return [
        each
        for each in overrides
        if not each.startswith(("data=", "data.")) or each.startswith("data.minimum_side=")
    ]


def read_about(store: Path) -> dict[str, Any] | None:
    """Read the settings that a store was created with; None where there is no store.

    Raises ValueError for a damaged file and another format.
    """
    about = read_json(store / "about.json", About, "prepare the photos again into another folder")
    if about is not None:
        check_format(store, about["format"])
    return about


def begin(out: Path, settings: dict[str, Any], overrides: Sequence[str]) -> None:
    """Record a new store's settings, or check that an existing store has the same.

    settings: plain values by name. overrides: the command's overrides, for messages. Raises
    ValueError if the folder contains something else, or a store with other settings.
    """
    # Create the store, in an empty folder only.
    about = read_about(out)
    if about is None:
        if out.exists() and any(out.iterdir()):
            raise ValueError(
                f"{out} is not empty and holds no prepared photos; give a new or an empty folder."
            )
        about = {"format": FORMAT, "settings": settings, "overrides": list(overrides)}
        write_json(out / "about.json", about, summed=True)
    # Compare the settings with those recorded.
    before = about["settings"]
    other = [name for name in settings if settings[name] != before.get(name)]
    if other:
        changes = "; ".join(
            f"{'--' if name in _OPTIONS else ''}{name} was {_short(before.get(name))} and is "
            f"{_short(settings[name])}"
            for name in other
        )
        options = [f"--{name} {before[name]}" for name in other if name in _OPTIONS]
        raise ValueError(
            f"{out} was created with other settings: {changes}. Use those"
            f" ({' '.join([*options, *about['overrides']]) or 'no overrides'}), or give another "
            "folder."
        )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:12]}…{text[-8:]}"
