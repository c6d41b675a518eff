"""A stranger's run is data: nothing of it is executed, followed or printed raw."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from storing import Store

from portraitlab.runs.run import Run
from portraitlab.runs.status import write_status
from portraitlab.support.files import read_json, write_json

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(store: Store) -> Run:
    return store.done("scale=smoke")


def planted(run: Run, group: str, **settings: Any) -> None:
    """Change settings of a group in a run's configuration."""
    path = run.folder / "config.yaml"
    content = yaml.safe_load(path.read_text())
    content[group] |= settings
    path.write_text(yaml.safe_dump(content))


COPY = "{_target_: shutil.copyfile, src: FOLDER/config.yaml, dst: FOLDER/made}"


@pytest.mark.parametrize(
    "extra",
    [
        *(f"extra: !!pairs [x: {COPY}]", f"extra: !!omap [x: {COPY}]", f"extra: {COPY}"),
        *(f"extra: [[{COPY}]]", "extra: !!set {x}", "_args_: [1]", "extra: 1"),
    ],
)
def test_an_export_builds_nothing_that_conf_does_not(
    run: Run, portraitlab: Call, tmp_path: Path, extra: str
) -> None:
    path = run.folder / "config.yaml"
    lines = path.read_text().splitlines()
    lines.insert(lines.index("encoder:") + 1, f"  {extra.replace('FOLDER', str(run.folder))}")
    path.write_text("\n".join(lines))
    code, _, problem = portraitlab("export", run.folder, tmp_path / "out")
    assert code == 1
    assert "no file of conf/" in problem or "config.yaml is damaged" in problem
    assert not (run.folder / "made").exists()
    assert not (tmp_path / "out").exists()


def test_an_export_asks_the_hub_for_no_controlnet(
    run: Run, portraitlab: Call, tmp_path: Path
) -> None:
    loader = {"_target_": "diffusers.ControlNetModel.from_pretrained"}
    for arguments, reason in (
        ({"pretrained_model_name_or_path": "evil/repo"}, "'evil/repo' is not a folder on this"),
        ({"_args_": ["evil/repo"]}, "net.start._args_ is an argument that no file of conf/ gives"),
        ({"cache_dir": "/"}, "net.start.cache_dir is an argument that no file of conf/ gives"),
    ):
        planted(run, "net", start={**loader, **arguments})
        code, _, problem = portraitlab("export", run.folder, tmp_path / "out")
        assert (code, reason in problem) == (1, True), problem


def test_clean_deletes_nothing_behind_a_link(
    store: Store, run: Run, portraitlab: Call, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    run.checkpoints.rename(elsewhere)
    run.checkpoints.symlink_to(elsewhere)
    kept = set(elsewhere.iterdir())
    other = store.done("seed=1")
    code, output, _ = portraitlab("clean", store.folder, "--yes")
    assert code == 0
    assert set(elsewhere.iterdir()) == kept != set()
    assert f"{other.checkpoints}/step-000200-0123456789abcdef.ckpt" in output
    assert "elsewhere" not in output
    assert not list(other.checkpoints.iterdir())


def test_a_report_shows_pictures_of_the_run_alone(
    run: Run, portraitlab: Call, tmp_path: Path
) -> None:
    def png(level: int) -> bytes:
        content = io.BytesIO()
        Image.new("L", (8, 8), level).save(content, "PNG")
        return content.getvalue()

    secret, own, foreign = b"a secret of this machine", png(1), png(2)
    for name, content in (("secret.txt", secret), ("foreign.png", foreign)):
        (tmp_path / name).write_bytes(content)
    people = {name: run.folder / "samples" / name for name in ("a", "b", "c")}
    for folder in people.values():
        folder.mkdir(parents=True)
    (people["a"] / "generated.png").write_bytes(own)
    (people["a"] / "target.png").write_bytes(secret)
    (people["a"] / "reference-1.png").symlink_to(tmp_path / "foreign.png")
    (people["b"] / "generated.png").symlink_to(tmp_path / "secret.txt")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "generated.png").write_bytes(foreign)
    people["c"].rmdir()
    people["c"].symlink_to(tmp_path / "linked")
    record = read_json(run.folder / "metrics.json") or {}
    write_json(run.folder / "metrics.json", {**record, "identities": 3, "protocol": 3})
    code, _, problem = portraitlab("report", run.folder)
    assert code == 0, problem
    page = (run.folder / "report.html").read_text()
    assert base64.b64encode(own).decode() in page
    for content in (secret, foreign):
        assert base64.b64encode(content).decode() not in page


def test_control_characters_of_a_status_do_not_reach_the_terminal(
    store: Store, run: Run, portraitlab: Call
) -> None:
    write_status(run.folder, "failed", error="\x1b]0;owned\x07\x1b[2J")
    code, output, problem = portraitlab("runs", store.folder)
    assert code == 0
    assert r"\x1b]0;owned\x07\x1b[2J" in output
    assert "\x1b" not in output + problem


def test_a_bomb_of_aliases_is_a_damaged_run_in_every_command(
    store: Store, run: Run, portraitlab: Call
) -> None:
    bomb = ["a0: &a0 [x, x]"]
    bomb += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 20)]
    (run.folder / "config.yaml").write_text("\n".join(bomb))
    other = store.done("seed=1")
    for command in (("runs", store.folder), ("diff", run.folder, other.folder)):
        _, output, problem = portraitlab(*command)
        assert "repeats a part by an alias" in output + problem
