"""`portraitlab faces`: what is refused before a model is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from portraitlab.app.cli.main import main


@pytest.mark.parametrize("name", ["sheet", "faces.jpg", "faces.txt"])
def test_a_sheet_that_would_not_be_a_png_by_its_name_is_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--root", str(tmp_path), "--packs", str(tmp_path), "--out", str(tmp_path / name)]
    assert main(["faces", "photo.jpg", *given]) == 1
    assert f"{name}: the sheet is a PNG; give a name that ends in .png" in capsys.readouterr().err
