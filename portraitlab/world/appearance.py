"""Haircut, beard and makeup of a person in one photo."""

from __future__ import annotations

from portraitlab.world.identity import Identity
from portraitlab.world.settings import PhotoSettings


def worn_style(identity: Identity, settings: PhotoSettings) -> str:
    """Return the haircut in a photo."""
    return identity.other_style if settings.other_haircut else identity.hair_style


def worn_beard(identity: Identity, settings: PhotoSettings) -> str:
    """Return the beard in a photo: the usual one, or what shaving left of it."""
    if identity.beard == "none" or settings.shave == "clean":
        return "none"
    return identity.beard if settings.shave == "usual" else "stubble"


def wears_makeup(identity: Identity, settings: PhotoSettings) -> bool:
    """Return True if the person wears makeup on lips and lids in a photo."""
    return settings.makeup < identity.makeup
