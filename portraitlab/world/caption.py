"""Captions and descriptions of photos.

A caption names style, clothes, glasses, background and light, never identity, expression or pose
(HiFi-Portrait, Sec. 3.4, has its captioner leave out expressions and poses). A description adds the
looks, as alternative texts on the web do. The CLIP-like model and the text-to-image UNet are
trained on both; the prompts in training and scoring of methods are captions.
"""

from __future__ import annotations

from collections.abc import Sequence

from portraitlab.world.appearance import wears_makeup, worn_beard, worn_style
from portraitlab.world.identity import SKIN_TONES, Identity
from portraitlab.world.mesh import EXPRESSION_NAMES, SHAPE_NAMES
from portraitlab.world.settings import PhotoSettings

SKIN_WORDS = ("pale", "light", "tan", "olive", "brown", "dark", "deep")
FEATURE_WORDS: dict[str, tuple[str, str]] = {
    "face width": ("narrow face", "wide face"),
    "face length": ("short face", "long face"),
    "jaw width": ("slim jaw", "square jaw"),
    "eye spacing": ("close-set eyes", "wide-set eyes"),
    "eye size": ("small eyes", "big eyes"),
    "eye slant": ("drooping eyes", "slanted eyes"),
    "nose length": ("short nose", "long nose"),
    "nose width": ("thin nose", "broad nose"),
    "mouth width": ("small mouth", "wide mouth"),
    "lip fullness": ("thin lips", "full lips"),
    "cheeks": ("hollow cheeks", "round cheeks"),
    "forehead": ("low forehead", "high forehead"),
}
"""Words for a shape coefficient far below and far above the mean."""
NOTABLE, MOST_NOTABLE = 1.0, 4
"""Standard deviations from which a feature is named, and the most features in a description.

Descriptions of bodies name one feature less, to leave room for the words of their framing.
"""
COVER_WORDS = {
    "mask": "a mask on the face",
    "scarf": "a scarf up to the lips",
    "hand": "a hand before the face",
}


FRAMING_WORDS = {"portrait": "", "varied": "", "half": ", half body", "full": ", full body"}
COUNTS = {2: "two", 3: "three", 4: "four"}
PLACES = {
    2: ("on the left", "on the right"),
    3: ("on the left", "in the middle", "on the right"),
    4: ("far left", "left", "right", "far right"),
}
"""Words for the people of a group, from the image's left to its right."""


def caption(settings: PhotoSettings) -> str:
    """Describe style, clothes, glasses, framing, background, light and what covers the face."""
    cover = "" if settings.cover == "none" else f", {COVER_WORDS[settings.cover]}"
    framing = FRAMING_WORDS[settings.framing]
    return f"a {_style(settings)} of {_clothed(settings)}{framing}, {_around(settings)}{cover}"


def group_caption(people: Sequence[PhotoSettings]) -> str:
    """Describe style, number of people, framing, each person's clothes and glasses, and the scene.

    People are described from left to right; background and light come last. people: two to four,
    who share style, framing, background and light.
    """
    scene, count = people[0], len(people)
    in_order = sorted(people, key=lambda settings: settings.x)
    worn = ", ".join(
        f"{place} {_clothed(settings)}"
        for place, settings in zip(PLACES[count], in_order, strict=True)
    )
    group = f"a group of {COUNTS[count]}{FRAMING_WORDS[scene.framing]}"
    return f"a {_style(scene)} of {group}, {worn}, {_around(scene)}"


def _style(settings: PhotoSettings) -> str:
    return f"blurred {settings.style}" if settings.blur else settings.style


def _clothed(settings: PhotoSettings) -> str:
    worn = f"{settings.clothes_colour} {settings.clothes}"
    if settings.clothes_pattern != "plain":
        worn = f"{settings.clothes_colour} {settings.clothes_pattern} {settings.clothes}"
    shades = "sunglasses" if settings.glasses == "sunglasses" else f"{settings.glasses} glasses"
    return f"a person in a {worn}" + ("" if settings.glasses == "none" else f" and {shades}")


def _around(settings: PhotoSettings) -> str:
    behind = f"a {settings.background_colour} {settings.background} background"
    return f"{behind}, {settings.light} light"


def description(identity: Identity, settings: PhotoSettings) -> str:
    """Return the caption with looks, most notable features, expression and head turn."""
    # Skin, hair and eyes, then the beard and marks that the photo shows.
    tone = int(abs(SKIN_TONES - identity.skin).sum(-1).argmin())
    hair = f"{identity.hair_colour} {worn_style(identity, settings)} hair"
    looks = f"{SKIN_WORDS[tone]} skin, {hair}, {identity.eye_colour} eyes"
    beard = worn_beard(identity, settings)
    marks = {
        beard: beard != "none",
        "makeup": wears_makeup(identity, settings),
        "mole": len(identity.moles),
        "birthmark": len(identity.birthmarks),
        "scar": len(identity.scars),
        "freckles": identity.freckles,
    }
    looks += "".join(f", {mark}" for mark, there in marks.items() if there)
    most = MOST_NOTABLE - 1 if FRAMING_WORDS[settings.framing] else MOST_NOTABLE
    looks += "".join(f", {feature}" for feature in _features(identity)[:most])
    # Expression and head turn.
    made = int(settings.expression.argmax())
    face = EXPRESSION_NAMES[made] if settings.expression[made] > 0.45 else "calm"
    turned = (
        "turned left"
        if settings.yaw < -0.3
        else "turned right"
        if settings.yaw > 0.3
        else "frontal"
    )
    return f"{caption(settings)}, {looks}, {face}, {turned}"


def _features(identity: Identity) -> list[str]:
    """Return words for the features farthest from the mean, the farthest first."""
    far = {name: float(identity.shape[SHAPE_NAMES.index(name)]) for name in FEATURE_WORDS}
    notable = sorted((n for n in far if abs(far[n]) > NOTABLE), key=lambda n: -abs(far[n]))
    return [FEATURE_WORDS[name][far[name] > 0] for name in notable[:MOST_NOTABLE]]
