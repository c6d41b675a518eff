"""No edit: pictures stay as they were drawn."""

from __future__ import annotations

from portraitlab.method.edit.base import Edit


class NoEdit(Edit):
    """The null choice of edits; nothing calls it."""

    changes = False
