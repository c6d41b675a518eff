"""No customisation: all people are drawn with the same weights."""

from __future__ import annotations

from portraitlab.method.customise.base import Customisation


class NoCustomisation(Customisation):
    """The null choice of customisations; nothing calls it."""

    changes = False
