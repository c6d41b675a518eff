"""How a person looks in one photo: the haircut, beard and makeup of the day."""

from __future__ import annotations

from portraitlab.world.identity import Identity
from portraitlab.world.settings import PhotoSettings


def worn_style(identity: Identity, settings: PhotoSettings) -> str:
    """The haircut as it is in a photo."""
    return identity.other_style if settings.other_haircut else identity.hair_style


def worn_beard(identity: Identity, settings: PhotoSettings) -> str:
    """The beard as it is in a photo: the usual one, or what shaving left of it."""
    if identity.beard == "none" or settings.shave == "clean":
        return "none"
    return identity.beard if settings.shave == "usual" else "stubble"


def wears_makeup(identity: Identity, settings: PhotoSettings) -> bool:
    """Whether a photo shows its person with painted lips and lids."""
    return settings.makeup < identity.makeup
