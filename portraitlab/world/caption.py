"""What is said of a photo.

A caption tells style, clothes, glasses, background and light, never identity, expression or pose
(HiFi-Portrait, Sec. 3.4, asks its captioner to leave out expressions and poses). A description
adds the looks, as alternative texts on the web do: the CLIP-like model and the text-to-image UNet
learn from both, while prompts in training and scoring portraits are captions.
"""

from __future__ import annotations

from portraitlab.world.identity import SKIN_TONES, Identity
from portraitlab.world.mesh import EXPRESSION_NAMES
from portraitlab.world.settings import PhotoSettings

SKIN_WORDS = ("pale", "light", "tan", "olive", "brown", "dark", "deep")


def caption(settings: PhotoSettings) -> str:
    """Style, clothes, glasses, background and light."""
    worn = f"{settings.clothes_colour} {settings.clothes}"
    if settings.clothes_pattern != "plain":
        worn = f"{settings.clothes_colour} {settings.clothes_pattern} {settings.clothes}"
    glasses = "" if settings.glasses == "none" else f" and {settings.glasses} glasses"
    behind = f"a {settings.background_colour} {settings.background} background"
    return f"a {settings.style} of a person in a {worn}{glasses}, {behind}, {settings.light} light"


def description(identity: Identity, settings: PhotoSettings) -> str:
    """The caption, the looks and the expression."""
    tone = int(abs(SKIN_TONES - identity.skin).sum(-1).argmin())
    hair = f"{identity.hair_colour} {identity.hair_style} hair"
    looks = f"{SKIN_WORDS[tone]} skin, {hair}, {identity.eye_colour} eyes"
    if identity.beard != "none":
        looks += f", {identity.beard}"
    if len(identity.moles):
        looks += ", mole"
    if identity.freckles:
        looks += ", freckles"
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
