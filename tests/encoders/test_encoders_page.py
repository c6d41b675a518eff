"""docs/encoders.md names every choice."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "encoders.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "group",
    [
        *("encoder", "clip", "recogniser", "finder", "matting", "clip_pair", "fid_features"),
        *("regressor", "further_judges"),
    ],
)
def test_every_choice_is_on_the_page(group) -> None:
    for path in (ROOT / "conf" / group).glob("*.yaml"):
        assert f"`{group}={path.stem}`" in PAGE or f"`{path.stem}`" in PAGE, path
