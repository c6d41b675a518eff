"""The page of a run that was really trained."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from portraitlab.app.cli.main import main
from portraitlab.tables.report.rows import read_report
from portraitlab.tables.report.sheets import sheets


@pytest.mark.slow
def test_a_trained_run_has_its_page(
    main_job: subprocess.CompletedProcess[str], runs: Path, tmp_path: Path
) -> None:
    assert main_job.returncode == 0, main_job.stderr
    [config] = runs.glob("hifi_portrait/refiner-landmarks-*/config.yaml")
    report = read_report(config.parent)
    [row] = report.rows
    assert (row.state, row.remarks) == ("done", [])
    assert row.losses
    assert "fusion._target_" in row.configuration
    assert len(sheets(report.rows)) == row.record["identities"]
    page = tmp_path / "page.html"
    assert main(["report", str(config.parent), "--output", str(page)]) == 0
    text = page.read_text()
    for name, metric in row.metrics.items():
        assert name in text
        value = metric["value"]
        assert ("not measured" if value is None else f"{value:.3f}") in text
