"""The main job and the sweep at smoke scale, end to end, as a user starts them."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from composing import run_py, without_wandb
from offline import records, values
from omegaconf import OmegaConf
from PIL import Image
from placed import ROOT

from portraitlab.runs.key import PROTOCOL
from portraitlab.training.losses import read_losses
from portraitlab.world.render import render_photo

pytestmark = pytest.mark.slow

METRICS = ["sim_f", "clip_f", "exp", "pose", "fid", "clip_t"]
METRICS += ["copy_paste", "rank1", "intrusion"]
BOUNDS = ["another identity", "real other photo", "autoencoder round trip"]
BOUNDS += ["regressor against truth"]


@pytest.fixture(scope="module")
def folder(main_job: subprocess.CompletedProcess[str]) -> Path:
    """The run's folder, as the main job's last words name it."""
    assert main_job.returncode == 0, main_job.stderr
    return Path(main_job.stdout.split("run: ")[1].strip())


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_the_main_job_shows_progress_a_table_and_the_runs_folder(
    main_job: subprocess.CompletedProcess[str], folder: Path, runs: Path
) -> None:
    assert folder.parent == runs / "hifi_portrait"
    assert folder.name.startswith("refiner-landmarks-hifi_net-r4-s0-")
    for name in [*METRICS, *BOUNDS, "this run", "generated images contain"]:
        assert name in main_job.stdout
    assert "Training" in main_job.stdout
    assert "4/4" in main_job.stdout
    assert "identity 0." in main_job.stdout


def test_the_record_holds_every_figure_and_how_it_was_taken(folder: Path) -> None:
    record = read(folder / "metrics.json")
    assert list(record["metrics"]) == METRICS
    assert list(record["bounds"]) == BOUNDS
    assert (record["fusion"], record["refs"], record["seed"], record["steps"]) == (
        *("refiner", 4, 0, 4),
    )
    assert record["images"] == record["identities"] == 3
    assert 0 <= record["faceless"] <= 3
    for metric in record["metrics"].values():
        assert metric["method"]
        assert metric["without_a_face"]
    assert record["metrics"]["sim_f"]["samples"] == 3
    assert (record["protocol"], record["real_photos"]) == (PROTOCOL, 8)
    assert list(record["bounds"]["regressor against truth"]) == ["exp", "pose"]
    copies = record["bounds"]["real other photo"]["sim_f"]["value"]
    strangers = record["bounds"]["another identity"]["sim_f"]["value"]
    assert copies > strangers + 0.2


def test_the_losses_are_those_before_a_refactoring(folder: Path) -> None:
    """Compare to a hundredth, for bfloat16; benchmarks/same_numbers.py compares bits."""
    logged = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [line["train/loss"] for line in logged]
    assert losses == pytest.approx([0.7411, 1.4030, 0.7677, 0.8508], rel=0.01)


def test_people_are_shown_in_strangers_poses_though_their_own_are_scored(folder: Path) -> None:
    assert OmegaConf.load(folder / "config.yaml").data.targets_of == "own"
    people = sorted(path.name for path in (folder / "samples").iterdir())
    photos = {
        person: [render_photo(int(person), number, 64).image for number in range(10)]
        for person in people
    }
    for person in people:
        target = np.array(Image.open(folder / "samples" / person / "target.png"))
        shown = {name for name in people for own in photos[name] if (own == target).all()}
        assert len(shown) == 1
        assert person not in shown


def test_the_run_folder_is_whole(folder: Path) -> None:
    assert read(folder / "status.json")["state"] == "done"
    assert OmegaConf.load(folder / "config.yaml").choices.cond == "landmarks"
    assert [line["step"] for line in read_losses(folder / "metrics.jsonl")] == [1, 2, 3, 4]
    assert read(folder / "origin.json")["versions"]["torch"]
    assert Image.open(folder / "grid.png").size == (7 * 132 + 4, 3 * 132 + 22)
    assert [path.name[:12] for path in sorted((folder / "checkpoints").glob("*"))] == [
        *("step-000002-", "step-000004-"),
    ]
    people = sorted((folder / "samples").iterdir())
    assert len(people) == 3
    assert len(list(people[0].glob("*.png"))) == 7
    assert (folder / "model.safetensors").is_file()


def test_wandb_is_written_offline_and_stays_in_the_run_folder(folder: Path) -> None:
    (path,) = (folder / "wandb").glob("offline-run-*/run-*.wandb")
    found = list(records(path))
    (run,) = [each.run for each in found if each.WhichOneof("record_type") == "run"]
    config = values(run.config.update)
    assert {name: config[name] for name in ("fusion", "cond", "refs", "seed")} == {
        **{"fusion": "refiner", "cond": "landmarks", "refs": 4, "seed": 0}
    }
    assert config["config"]["optimiser"]["learning_rate"] == 2e-3
    assert run.run_group == "hifi_portrait"
    assert list(run.tags) == ["smoke", "default"]
    assert run.display_name == folder.name
    logged: dict[str, Any] = {}
    for each in found:
        if each.WhichOneof("record_type") == "history":
            logged |= values(each.history.item)
    assert logged["train/loss"] > 0
    assert logged["train/noise"] > 0
    assert "train/identity" in logged
    assert logged["train/step"] == 4
    record = read(folder / "metrics.json")
    assert logged["score/fid"] == record["metrics"]["fid"]["value"]
    assert logged["score/fid_error"] == record["metrics"]["fid"]["error"]
    assert Image.open(path.parent / "files" / logged["grid.path"]).size[0] == 7 * 132 + 4
    assert (logged["portraits.ncols"], logged["portraits.nrows"]) == (5, 3)


@pytest.mark.fault("W&B is not reached", "nothing: it is logged offline")
def test_with_a_key_but_no_connection_wandb_is_written_offline(
    cache: Path, home: Path, tmp_path: Path
) -> None:
    ended = run_py(
        *("scale=smoke", "seed=1", f"cache={cache}", f"runs={tmp_path}"),
        home=home,
        WANDB_API_KEY="0" * 40,
        WANDB_BASE_URL="http://127.0.0.1:9",  # the port of the service that discards
    )
    assert ended.returncode == 0, ended.stderr
    assert "W&B was not reached" in ended.stdout + ended.stderr
    assert len(list(tmp_path.glob("*/*/wandb/offline-run-*/run-*.wandb"))) == 1
    assert len(list(tmp_path.glob("*/*/metrics.json"))) == 1


def test_the_same_command_again_finds_all_done(
    folder: Path, cache: Path, home: Path, runs: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    again = run_py("scale=smoke", f"runs={runs}", f"cache={cache}", home=home)
    assert again.returncode == 0, again.stderr
    assert f"run: {folder}" in again.stdout
    assert "Training" not in again.stdout
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()} == before


def test_a_trained_run_is_scored_otherwise_and_sampled(
    folder: Path, cache: Path, home: Path, runs: Path
) -> None:
    first = read(folder / "metrics.json")
    places = (f"runs={runs}", f"cache={cache}", "scale=smoke")
    scored = run_py("task=score", "score_refs=1", "metrics=[sim_f]", *places, home=home)
    assert scored.returncode == 0, scored.stderr
    (record,) = (folder / "scores").glob("*/metrics.json")
    assert (read(record)["refs"], read(record)["score_refs"]) == (4, 1)
    assert list(read(record)["metrics"]) == ["sim_f"]
    assert OmegaConf.load(record.parent / "config.yaml").score_refs == 1
    assert OmegaConf.load(folder / "config.yaml").score_refs == 4
    assert read(folder / "metrics.json") == first
    sampled = run_py("task=sample", "task.count=2", *places, home=home)
    assert sampled.returncode == 0, sampled.stderr
    pictures = sorted((folder / "portraits").glob("*/*.png"))
    assert [path.name[:4] for path in pictures] == ["0000", "0001", "grid"]
    assert Image.open(pictures[0]).size == (64, 64)


def test_a_console_of_another_encoding_ends_no_run(
    folder: Path, cache: Path, home: Path, runs: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "run.py", f"runs={runs}", f"cache={cache}", "scale=smoke"],
        cwd=ROOT, capture_output=True, check=False,
        env={**without_wandb(), "HOME": str(home), "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"sim_f ?" in done.stdout


def test_pictures_made_elsewhere_are_judged_as_portraits(
    folder: Path, cache: Path, home: Path, runs: Path, tmp_path: Path
) -> None:
    own = read(folder / "metrics.json")
    places = (f"runs={runs}", f"cache={cache}", "scale=smoke")
    count = own["images"]
    sampled = run_py("task=sample", f"task.count={count}", *places, home=home)
    assert sampled.returncode == 0, sampled.stderr
    drawn = Path(sampled.stdout.split("portraits: ")[1].strip())
    lacking = run_py("task=judge", f"pictures={tmp_path}", *places, home=home)
    assert lacking.returncode == 1
    assert f"{count} of {count} pictures are missing in" in lacking.stderr
    # Enlarged, as other programs return them.
    for path in drawn.glob("0*.png"):
        Image.open(path).resize((128, 128), Image.Resampling.NEAREST).save(tmp_path / path.name)
    judged = run_py("task=judge", f"pictures={tmp_path}", *places, home=home)
    assert judged.returncode == 0, judged.stderr
    record = read(tmp_path / "judged.json")
    for name in ("sim_f", "clip_t"):
        for bound, figures in record["bounds"].items():
            assert figures.get(name) == own["bounds"][bound].get(name), bound
        value, other = record["metrics"][name]["value"], own["metrics"][name]["value"]
        assert value == pytest.approx(other, abs=0.05), name


def test_the_sweep_ends_with_one_table(folder: Path, cache: Path, home: Path, runs: Path) -> None:
    sweep = run_py(
        *("-m", "fusion=refiner,concat", "cond=landmarks,keypoints", "scale=smoke"),
        *("logger=none", f"runs={runs}", f"cache={cache}"),
        home=home,
    )
    assert sweep.returncode == 0, sweep.stderr
    path = Path(sweep.stdout.split("sweep: ")[1].splitlines()[0])
    rows = list(csv.reader((path.parent / "sweep.csv").read_text().splitlines()))
    assert rows[0][:2] == ["fusion", "cond"]
    assert [row[:2] for row in rows[1:5]] == [
        *(["refiner", "landmarks"], ["refiner", "keypoints"]),
        *(["concat", "landmarks"], ["concat", "keypoints"]),
    ]
    assert [row[0] for row in rows[5:]] == BOUNDS
    figure = read(folder / "metrics.json")["metrics"]["clip_t"]["value"]
    assert rows[1][rows[0].index("clip_t ↑")].startswith(f"{figure:.3f} ±")
    markdown = path.read_text()
    for row in rows:
        assert "| " + " | ".join(row) + " |" in markdown
    table = sweep.stdout.split("run: ")[-1]
    assert all(name in table for name in ("refiner", "concat", "keypoints", *BOUNDS))
    assert len(list((runs / "hifi_portrait").glob("*/"))) == 4


@pytest.mark.fault("a job of a sweep fails", "that job, with a message")
def test_a_failing_job_costs_the_sweep_no_other(cache: Path, home: Path, tmp_path: Path) -> None:
    sweep = run_py(
        *("-m", "optimiser.learning_rate=1e38,0.002", "scale=smoke", "logger=none"),
        *(f"runs={tmp_path}", f"cache={cache}"),
        home=home,
    )
    assert sweep.returncode == 1
    assert "Traceback" not in sweep.stderr
    rows = list(csv.reader(next(tmp_path.glob("sweeps/*/sweep.csv")).read_text().splitlines()))
    assert rows[1] == ["1e+38", *["failed"] * 9]
    assert rows[2][0] == "0.002"
    assert "±" in rows[2][-1]
    assert "1e+38 failed: The loss is not finite at step" in sweep.stdout
    states = [read(path)["state"] for path in tmp_path.glob("hifi_portrait/*/status.json")]
    assert sorted(states) == ["done", "failed"]
