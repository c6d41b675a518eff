"""A preparation that was really killed, in the miniature world, by the command itself."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from prepared_photos import contents

from portraitlab.cli.main import main
from portraitlab.data.prepared import PreparedPhotos


@pytest.mark.slow
def test_a_killed_preparation_goes_on_and_ends_with_the_same_bytes(sound, tmp_path) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    options = ["--shard", "2", "--batch", "2", "--workers", "1"]

    def arguments(folder: Path) -> list[str]:
        return ["data", "prepare", *options, str(sound), str(folder)]

    killed = subprocess.Popen(
        [sys.executable, "-m", "portraitlab.cli.main", *arguments(out)],
        stderr=subprocess.DEVNULL,
    )
    journal = out / "journal.jsonl"
    while killed.poll() is None and (
        not journal.exists() or b'"photos 2"' not in journal.read_bytes()
    ):
        time.sleep(0.002)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    done = {path.name: path.stat().st_mtime_ns for path in (out / "photos").glob("0*")}
    assert 3 <= len(done) < 11
    with pytest.raises(ValueError, match="not all prepared yet"):
        PreparedPhotos(out)
    assert main(arguments(out)) == 0
    noted = {journal.read_text().count(f'"photos {number}"') for number in range(11)}
    assert noted == {1}
    kept = {name: (out / "photos" / name).stat().st_mtime_ns for name in sorted(done)[:-1]}
    assert kept == {name: done[name] for name in kept}
    assert main(arguments(whole)) == 0
    ours, theirs = contents(out), contents(whole)
    ours = {name: held for name, held in ours.items() if "unfinished-" not in name}
    assert ours == theirs
    photos = PreparedPhotos(out)
    names = list(zip(photos.identity, photos.name, strict=True))
    assert len(set(names)) == len(names) == 22
    assert photos.counts.sum() == 22
    assert np.array_equal(photos.owners()[1], [0] * 4 + [1] * 5 + [2] * 6 + [3] * 7)
