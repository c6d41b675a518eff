"""Check what W&B receives, in its offline files and at a server in its place."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wandb
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from offline import records, values
from omegaconf import DictConfig
from recorded import LINES, write_record
from wandb_server import WandbServer

from portraitlab.runs.key import plain
from portraitlab.runs.run import Run
from portraitlab.runs.status import Preempted
from portraitlab.training.loggers import WandbMirror, opened, wandb_logger


@pytest.fixture(autouse=True)
def _places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take back what a mirror sets for its process."""
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR"):
        monkeypatch.setenv(name, "")


def open_mirror(folder: Path, **changed: Any) -> WandbMirror:
    folder.mkdir(parents=True, exist_ok=True)
    given: dict[str, Any] = {"folder": folder, "name": folder.name, "key": "k1", "task": "train"}
    given |= {"settings": {"fusion": "concat", "refs": 2}, "project": "portraitlab"}
    given |= {"group": "a-sweep", "tags": ["smoke"], "notes": "why", "offline": True}
    given |= {"scoring": None, "done": False}
    mirror = wandb_logger(**{**given, **changed})
    assert mirror is not None
    return mirror


def offline_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))


def history(folder: Path) -> list[dict[str, Any]]:
    found = [each for path in offline_files(folder) for each in records(path)]
    return [
        values(each.history.item) for each in found if each.WhichOneof("record_type") == "history"
    ]


def ending(path: Path) -> tuple[int, bool]:
    """Exit code of an offline run, and whether it says that it was preempted."""
    found = list(records(path))
    (code,) = [each.exit.exit_code for each in found if each.WhichOneof("record_type") == "exit"]
    return code, any(each.WhichOneof("record_type") == "preempting" for each in found)


def test_figures_have_their_errors_and_pictures_one_table(tmp_path: Path) -> None:
    record = write_record(tmp_path)
    mirror = open_mirror(tmp_path)
    mirror.record(record, tmp_path)
    mirror.close()
    (row,) = history(tmp_path)
    assert {name: row[name] for name in row if name.startswith("score/")} == {
        **{"score/sim_f": 0.5, "score/sim_f_error": 0.25},
        **{"score/fid": 1.0, "score/faceless": 2},
    }
    (path,) = offline_files(tmp_path)
    found = list(records(path))
    summary = {}
    for each in found:
        if each.WhichOneof("record_type") == "summary":
            summary |= values(each.summary.update)
    assert summary["score/sim_f_error"] == 0.25
    assert summary["portraits._type"] == "table-file"
    (run,) = [each.run for each in found if each.WhichOneof("record_type") == "run"]
    assert (run.run_id, run.run_group, run.job_type, run.notes) == ("k1", "a-sweep", "train", "why")
    (table,) = [path for path in staged(tmp_path) if path.read_bytes().startswith(b"{")]
    content = json.loads(table.read_text())
    assert content["columns"] == ["identity", "references", "control image", "generated", "target"]
    assert [row[0] for row in content["data"]] == ["anna", "bert"]
    assert (content["data"][0][1]["width"], content["data"][0][1]["height"]) == (16, 8)
    assert ending(path) == (0, False)


def staged(folder: Path) -> list[Path]:
    """The files of the tables of the offline runs, as seen from the run's folder."""
    found = [each for path in offline_files(folder) for each in records(path)]
    artifacts = [each.artifact for each in found if each.WhichOneof("record_type") == "artifact"]
    entries = [entry for artifact in artifacts for entry in artifact.manifest.contents]
    return [folder / entry.local_path for entry in entries if entry.local_path]


def test_without_a_control_image_the_table_has_the_same_columns(tmp_path: Path) -> None:
    record = write_record(tmp_path)
    for path in tmp_path.glob("samples/*/control-image.png"):
        path.unlink()
    mirror = open_mirror(tmp_path)
    mirror.record(record, tmp_path)
    mirror.close()
    (table,) = [path for path in staged(tmp_path) if path.read_bytes().startswith(b"{")]
    content = json.loads(table.read_text())
    assert len(content["columns"]) == 5
    assert content["data"][0][2] is None


def test_a_second_scoring_leaves_the_first_ones_keys(tmp_path: Path) -> None:
    second = tmp_path / "scores" / "abcd"
    first, other = write_record(tmp_path), write_record(second, 0.7, "abcd")
    for record, folder in ((first, tmp_path), (other, second)):
        mirror = open_mirror(tmp_path)
        mirror.record(record, folder)
        mirror.close()
    rows = history(tmp_path)
    assert [row["_step"] for row in rows] == [1, 2]
    assert rows[0]["score/sim_f"] == 0.5
    assert rows[1]["score/abcd/sim_f"] == 0.7
    assert "score/sim_f" not in rows[1]
    assert "portraits/abcd.path" in rows[1]


def test_a_later_scoring_does_not_replace_the_settings_of_the_first(
    composed: Callable[..., DictConfig], tmp_path: Path
) -> None:
    config = composed("scale=smoke", "logger.offline=true", f"runs={tmp_path}")
    settings = plain(config)
    run = Run.of(settings)
    with opened(config, settings, run):
        pass
    run.weights.touch()
    write_record(run.folder, scoring="another")
    with opened(config, settings, run):
        pass
    first, second = [
        values(each.run.config.update)
        for path in offline_files(run.folder)
        for each in records(path)
        if each.WhichOneof("record_type") == "run"
    ]
    flat = {"fusion": "refiner", "cond": "landmarks", "net": "hifi_net", "refs": 4, "seed": 0}
    flat |= {"select": "random", "budget": "default", "steps": 4, "scale": "smoke"}
    flat |= {"system": "hifi_portrait", "row": "refiner-landmarks-hifi_net-4", "key": run.key}
    assert {name: first[name] for name in flat} == flat
    assert first["config"]["optimiser"]["learning_rate"] == 2e-3
    assert set(second) == {"_wandb", f"score/{run.scoring}"}


@pytest.mark.parametrize(
    ("error", "expected"),
    [(RuntimeError("no"), (1, False)), (Preempted(15, "SIGTERM"), (143, True))],
)
def test_a_failed_run_is_marked(
    composed: Callable[..., DictConfig], tmp_path: Path, error: BaseException, expected: Any
) -> None:
    config = composed("scale=smoke", "logger.offline=true", f"runs={tmp_path}")
    settings = plain(config)
    run = Run.of(settings)
    with pytest.raises(type(error)), opened(config, settings, run):
        raise error
    (path,) = offline_files(run.folder)
    assert ending(path) == expected
    assert wandb.run is None


def test_only_the_first_process_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    with pytest.raises(AssertionError):
        open_mirror(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "reason"),
    [({"project": "a/b"}, "cannot contain"), ({"tags": [70 * "x"]}, "between 1 and 64")],
)
def test_settings_that_wandb_does_not_take_are_one_message(
    tmp_path: Path, given: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=rf"logger\.project, logger\.tags.*{reason}"):
        open_mirror(tmp_path, **given)


def test_a_stopped_training_continues_its_curve(tmp_path: Path) -> None:
    stopped = open_mirror(tmp_path)
    for line in LINES[:3]:
        stopped.line(line)
    stopped.close(RuntimeError("killed"))
    resumed = open_mirror(tmp_path)
    for line in LINES[1:]:  # from the checkpoint at step 10
        resumed.line(line)
    resumed.close()
    rows = history(tmp_path)
    assert [row["train/step"] for row in rows] == [row["_step"] for row in rows] == [10, 20, 30, 40]
    assert [row["train/loss"] for row in rows] == [line["train/loss"] for line in LINES]


def test_a_moved_folder_is_synced_whole(server: WandbServer, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    stopped = open_mirror(folder)
    for line in LINES[:2]:
        stopped.line(line)
    stopped.close(RuntimeError("killed"))
    record = write_record(folder)
    resumed = open_mirror(folder)
    for line in LINES[1:]:
        resumed.line(line)
    resumed.record(record, folder)
    resumed.close()
    moved = tmp_path / "elsewhere"
    shutil.move(folder, moved)
    assert len(staged(moved)) == 9  # 2 strips, 6 pictures, the table
    assert all(path.is_file() for path in staged(moved))
    ended = subprocess.run(
        [sys.executable, "-m", "wandb", "sync", "--yes"],
        cwd=moved,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path / "home"), **server.variables},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    rows = server.history["k1"]
    assert [row["_step"] for row in rows] == [10, 20, 30, 40, 41]
    assert rows[-1]["score/sim_f_error"] == 0.25
    assert server.exits["k1"] == [1, 0]
    pictures = [name for name in server.uploads if name.startswith("artifact/media/images/")]
    assert len(pictures) == 8, (list(server.uploads), ended.stderr)
    assert server.uploads["artifact/portraits.table.json"].startswith(b"{")
    assert any(name.startswith("media/images/grid") for name in server.uploads)


def test_online_a_run_continues_and_a_fresh_one_is_added(
    server: WandbServer, tmp_path: Path
) -> None:
    def train(lines: list[dict[str, Any]]) -> None:
        mirror = open_mirror(tmp_path, offline=False)
        for line in lines:
            mirror.line(line)
        mirror.close()

    train(LINES[:2])
    train(LINES[1:])
    steps = [10, 20, 30, 40]
    assert [row["train/step"] for row in server.history["k1"]] == steps
    shutil.rmtree(tmp_path / "wandb")
    train(LINES)
    rows = server.history["k1"]
    assert [row["train/step"] for row in rows] == steps * 2
    assert [row["_step"] for row in rows] == sorted(row["_step"] for row in rows)
    assert server.exits["k1"] == [0, 0, 0]


def test_an_agents_job_has_its_name_and_reports_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = write_record(tmp_path / "scores" / "abcd", scoring="abcd")
    assert wandb_logger_of_a_done_run(tmp_path) is None
    monkeypatch.setenv("WANDB_SWEEP_ID", "s1")
    monkeypatch.setenv("WANDB_RUN_ID", "agents")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "agents"))
    wandb.teardown()
    try:
        mirror = wandb_logger_of_a_done_run(tmp_path)
        assert mirror is not None
        mirror.line(LINES[0])
        mirror.record(record, tmp_path / "scores" / "abcd")
        mirror.close()
    finally:
        monkeypatch.undo()
        wandb.teardown()
    (path,) = offline_files(tmp_path)
    assert path.name == "run-agents.wandb"
    (run,) = [each.run for each in records(path) if each.WhichOneof("record_type") == "run"]
    assert values(run.config.update)["refs"] == 2
    assert [row.get("score/sim_f") for row in history(tmp_path)] == [None, 0.5]


def wandb_logger_of_a_done_run(folder: Path) -> WandbMirror | None:
    return wandb_logger(
        **{"folder": folder, "name": "n", "key": "k1", "task": "train", "settings": {"refs": 2}},
        **{"scoring": "abcd", "done": True},
        **{"project": "p", "group": "g", "tags": [], "notes": None, "offline": True},
    )
