"""Locate the folders beside the package that the program reads."""

from pathlib import Path

_PROJECT = Path(__file__).resolve().parents[2]

CONF = _PROJECT / "conf"
"""Choices of all groups, as Hydra composes them."""
EXPERIMENTS = _PROJECT / "experiments"
"""Declarations of the papers' tables, and their committed results."""
DOCS = _PROJECT / "docs"
"""Pages, some with tables that scripts write."""
