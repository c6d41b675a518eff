"""A preparation in the miniature world, run by the command and killed."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from prepared_photos import contents
from warm import warm

from portraitlab.app.cli.main import main
from portraitlab.data.prepared import PreparedPhotos

PROGRAM = "portraitlab.app.cli.main"


@pytest.mark.slow
def test_a_killed_part_is_gone_on_with_by_another_number_of_parts(sound, tmp_path, capsys) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    options = ["--shard", "2", "--batch", "2"]

    def arguments(folder: Path, part: str, *overrides: str, workers: int = 0) -> list[str]:
        given = [*options, "--workers", str(workers), "--part", part]
        return ["data", "prepare", *given, str(sound), str(folder), *overrides]

    environment = dict(os.environ)
    with open(os.devnull, "w") as nowhere:
        command = arguments(out, "1/2", workers=1)
        killed = warm().start(command, environment, nowhere, nowhere, PROGRAM)
    while killed.poll() is None and not (out / "photos" / "000002.arrow").exists():
        time.sleep(0.002)
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait(10) == -signal.SIGKILL
    done = {path: path.stat().st_mtime_ns for path in (out / "photos").glob("0*")}
    assert 2 <= len(done) < 6
    with pytest.raises(ValueError, match="not all prepared yet"):
        PreparedPhotos(out)
    # The kill released its lock: resume in two of three parts, then on two devices.
    for part in ("3/3", "1/3"):
        assert main(arguments(out, part)) == 0
        assert f"part {part} is done. Shards of other parts are not" in capsys.readouterr().out
    devices = 2 if len(os.sched_getaffinity(0)) > 1 else 1
    command = arguments(out, "2/3", f"trainer.devices={devices}")
    ended = warm().run(command, environment, 300, PROGRAM)
    assert ended.returncode == 0, ended.stderr
    assert f"{out}: 22 photos of 4 identities" in ended.stdout
    assert done == {path: path.stat().st_mtime_ns for path in done}
    assert main(arguments(whole, "1/1")) == 0
    ours, theirs = contents(out), contents(whole)
    ours = {name: held for name, held in ours.items() if "unfinished-" not in name}
    assert ours == theirs
    photos = PreparedPhotos(out)
    names = list(zip(photos.identity, photos.name, strict=True))
    assert len(set(names)) == len(names) == 22
    assert np.array_equal(photos.owners()[1], [0] * 4 + [1] * 5 + [2] * 6 + [3] * 7)
