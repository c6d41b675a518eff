"""`portraitlab runs`: every run with what became of it."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from placed import ROOT
from storing import Store

from portraitlab.runs.run import Run
from portraitlab.runs.status import Preempted, Status, read_status, write_status
from portraitlab.support.files import write_json
from portraitlab.support.lock import locked

Call = Callable[..., tuple[int, str, str]]


def rows(output: str) -> dict[str, list[str]]:
    """The cells of each row by the run's key."""
    lines = [line.strip("│").split("│") for line in output.splitlines() if line.startswith("│")]
    return {cells[0].strip(): [cell.strip() for cell in cells] for cells in lines}


def test_runs_are_listed_with_state_settings_and_scores(store: Store, portraitlab: Call) -> None:
    done = store.done("fusion=refiner")
    failed = store.failed("fusion=concat", "refs=2")
    code, output, _ = portraitlab("runs", store.folder)
    assert code == 0
    table = rows(output)
    assert table[done.key][1:2] == ["done"]
    assert {"refiner", "4", "0.500 ±0.050"} < set(table[done.key])
    assert table[failed.key][1] == "failed 240/1000"
    assert {"concat", "2"} < set(table[failed.key])
    assert f"{failed.key} failed: the disk is full" in output
    assert "sim_f ↑" in output
    assert "exp ↓" in output
    # Settings that all share are printed once.
    assert "all: system=hifi_portrait cond=landmarks net=hifi_net seed=0 steps=1000" in output


def test_running_and_killed_runs_are_distinguished(store: Store, portraitlab: Call) -> None:
    run = store.begun()
    holds = (
        "import sys, time; from pathlib import Path; from portraitlab.support.lock import locked\n"
        "from portraitlab.runs.status import Status\n"
        "folder = Path(sys.argv[1])\n"
        "with locked(folder), Status(folder) as status:\n"
        "    status.doing('training', 1000)\n"
        "    print('running', flush=True)\n"
        "    time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", holds, str(run.folder)], cwd=ROOT, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        _, output, _ = portraitlab("runs", store.folder)
        assert rows(output)[run.key][1] == "running (training)"
        assert rows(output)[run.key][2].endswith("s ago")
    finally:
        process.kill()
        process.wait()
    _, output, _ = portraitlab("runs", store.folder)
    assert rows(output)[run.key][1] == "lost"
    assert "was killed; the same command resumes it" in output


def test_a_run_of_another_machine_is_not_called_lost(store: Store, portraitlab: Call) -> None:
    run = store.begun()
    write_status(run.folder, "running", host="elsewhere", process=1, step=3, steps=9)
    _, output, _ = portraitlab("runs", store.folder)
    assert rows(output)[run.key][1] == "running 3/9"


def test_stopped_and_queued_runs(store: Store, portraitlab: Call) -> None:
    stopped = store.begun()
    with pytest.raises(Preempted), Status(stopped.folder):
        raise Preempted(2, "Ctrl-C")
    queued = Run.of(store.settings("fusion=concat", "seed=3"))
    write_status(queued.folder, "queued")
    _, output, _ = portraitlab("runs", store.folder)
    assert f"{stopped.key} preempted: stopped by Ctrl-C; the same command resumes it" in output
    # It has no config.yaml yet: its name tells.
    assert {"queued", "concat", "3"} < set(rows(output)[queued.key])


def test_a_queued_run_of_an_ended_command_is_marked(store: Store, portraitlab: Call) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for seed, process in ((0, os.getpid()), (1, ended.pid)):
        folder = Run.of(store.settings(f"seed={seed}")).folder
        write_status(folder, "queued", host=socket.gethostname(), process=process)
    _, output, _ = portraitlab("runs", store.folder)
    key = Run.of(store.settings("seed=1")).key
    assert f"{key} queued: the command that queued it has ended" in output
    assert output.count("has ended") == 1


def test_filters(store: Store, portraitlab: Call) -> None:
    one, two, three = store.done("seed=1"), store.failed("seed=2"), store.done("fusion=concat")

    def listed(*arguments: str) -> set[str]:
        code, output, _ = portraitlab("runs", store.folder, "--json", *arguments)
        assert code == 0
        return {each["run"] for each in json.loads(output)}

    assert listed() == {one.key, two.key, three.key}
    assert listed("--state", "failed") == {two.key}
    assert listed("--where", "fusion=concat") == {three.key}
    assert listed("--where", "fusion=refiner", "--where", "seed=1") == {one.key}
    assert listed("--where", "optimiser.schedule=cosine", "--where", "steps=1000") == listed()
    assert listed("--where", "fresh=true") == set()
    assert portraitlab("runs", store.folder, "--state", "lost")[1].endswith(" matches\n")


def test_order(store: Store, portraitlab: Call) -> None:
    worst = store.done("seed=3", sim_f={"anna": 0.1})
    failed = store.failed("seed=2")
    best = store.done("seed=1", sim_f={"anna": 0.9})

    def order(*arguments: str) -> list[str]:
        _, output, _ = portraitlab("runs", store.folder, "--json", *arguments)
        return [each["run"] for each in json.loads(output)]

    assert order("--sort", "sim_f") == [best.key, worst.key, failed.key]
    assert order("--sort", "exp") == [best.key, worst.key, failed.key]
    assert order("--sort", "seed") == [best.key, failed.key, worst.key]


def test_a_damaged_run_hides_no_other(store: Store, portraitlab: Call) -> None:
    sound = store.done()
    for number, name in enumerate(["status.json", "config.yaml", "metrics.json"]):
        (store.done(f"seed={number + 1}").folder / name).write_text('{"state": [cut off')
    (store.done("seed=4").folder / "status.json").write_text('{"state": "sleeping"}')
    (store.done("seed=5").folder / "metrics.json").write_text("[]")
    strange: list[dict[str, object]] = [
        {"written": 5}, {"written": "2026-01-01T00:00:00"}, {"step": "x"}, {"process": 10**20}
    ]  # fmt: skip
    for number, content in enumerate(strange):
        write_json(
            store.done(f"seed={number + 6}").folder / "status.json", {"state": "done", **content}
        )
    code, output, _ = portraitlab("runs", store.folder)
    assert code == 0
    states = [cells[1] for cells in rows(output).values()]
    assert states.count("damaged") == 5 + len(strange)
    assert rows(output)[sound.key][1] == "done"
    assert output.count("is damaged (") == 5 + len(strange)
    assert "sleeping" in output


def test_further_scorings_are_counted(store: Store, portraitlab: Call) -> None:
    run = store.done()
    store.record(run, "aaaaaaaa", run.folder / "scores" / "aaaaaaaa", {"anna": 0.5})
    _, output, _ = portraitlab("runs", store.folder)
    assert rows(output)[run.key][-1] == "1"
    assert json.loads(portraitlab("runs", store.folder, "--json")[1])[0]["scored_again"] == [
        "aaaaaaaa"
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--where", "fusoin=concat"], r"no run has the setting fusoin; settings are .*fusion"),
        (["--where", "fusion"], "give it as --where fusion=VALUE"),
        (["--sort", "beauty"], "no run has such a metric or setting; there are sim_f, exp, system"),
    ],
)
def test_bad_filters_list_the_valid_names(
    store: Store, portraitlab: Call, arguments: list[str], expected: str
) -> None:
    store.done()
    code, output, message = portraitlab("runs", store.folder, *arguments)
    assert (code, output) == (1, "")

    assert re.search(expected, message)


def test_a_folder_that_is_not_there(tmp_path: Path, portraitlab: Call) -> None:
    code, _, message = portraitlab("runs", tmp_path / "nowhere")
    assert code == 1
    assert "there is no folder" in message
    assert portraitlab("runs", tmp_path)[1] == f"no run in {tmp_path}\n"


def test_debug_runs_are_listed_apart(store: Store, portraitlab: Call) -> None:
    run, apart = store.done(), Store(store.folder / "debug").done("debug=fast")
    assert set(rows(portraitlab("runs", store.folder)[1])) == {run.key}
    assert set(rows(portraitlab("runs", store.folder / "debug")[1])) == {apart.key}
    # The folder of one system, and a run's own, are looked at as well.
    assert set(rows(portraitlab("runs", run.folder.parent)[1])) == {run.key}
    assert set(rows(portraitlab("runs", run.folder)[1])) == {run.key}


def test_listing_changes_nothing_and_imports_nothing_heavy(store: Store) -> None:
    run = store.done()
    with locked(run.folder):
        before = {path: path.stat().st_mtime_ns for path in store.folder.rglob("*")}
    listed = subprocess.run(
        [
            sys.executable,
            "-X",
            "importtime",
            "-m",
            "portraitlab.app.cli.main",
            "runs",
            store.folder,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert listed.returncode == 0, listed.stderr
    imported = {
        line.rsplit("|", 1)[-1].strip().split(".")[0] for line in listed.stderr.splitlines()
    }
    assert not imported & {"torch", "lightning", "diffusers", "numpy", "wandb"}
    assert {path: path.stat().st_mtime_ns for path in store.folder.rglob("*")} == before
    assert read_status(run.folder) is not None


def test_a_reader_that_stops_reading_is_no_error(tmp_path: Path) -> None:
    for number in range(40):
        write_status(tmp_path / "system" / f"run-{number}", "queued")
    command = f"{sys.executable} -m portraitlab.app.cli.main runs {tmp_path} --json | head -c 10"
    ended = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, cwd=ROOT
    )
    assert (ended.returncode, ended.stderr) == (0, "")
