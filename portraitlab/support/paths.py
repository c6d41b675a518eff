"""Locate the folders that the program reads: beside the package, or in a wheel inside it."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
_BESIDE = _PACKAGE if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent

CONF = _BESIDE / "conf"
"""Choices of all groups, as Hydra composes them."""
EXPERIMENTS = _BESIDE / "experiments"
"""Declarations of the papers' tables, and their committed results."""
DOCS = _BESIDE / "docs"
"""Pages, some with tables that scripts write; only in a checkout."""
