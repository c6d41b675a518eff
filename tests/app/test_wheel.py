"""The wheel has all that the program reads: it runs from any folder, without a checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from placed import ROOT

LEFT_OUT = shutil.ignore_patterns(".*", "runs", "*.egg-info", "__pycache__", "tests", "docs")


@pytest.mark.slow
def test_the_main_job_runs_from_a_wheel(cache: Path, home: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT, tmp_path / "source", ignore=LEFT_OUT)
    built = subprocess.run(
        [sys.executable, "setup.py", "-q", "bdist_wheel", "--dist-dir", tmp_path],
        cwd=tmp_path / "source", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "installed")
    shutil.rmtree(tmp_path / "source")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed"), "HOME": str(home)}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-P", *arguments],
            cwd=elsewhere, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    found = run("-c", "from portraitlab.support.paths import CONF; print(CONF)")
    assert Path(found.strip()).is_relative_to(tmp_path / "installed")
    smoke = ("scale=smoke", "metrics=[sim_f]", "logger=none", f"cache={cache}")
    assert "this run" in run("-m", "portraitlab", *smoke)
    assert list(elsewhere.glob("runs/*/*/metrics.json"))
