"""Files that anybody may have written are read as plain data within limits, or named."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typing_extensions import TypedDict

from portraitlab.support.files import DamagedFile, below, read_json, write_json
from portraitlab.support.yaml_files import read_yaml

FUZZ = settings(
    max_examples=60,
    deadline=None,  # machines may be busy
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
PLAIN = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)
HOSTILE = [
    "a: !!pairs [x: {_target_: os.system}]",
    "a: !!omap [x: 1]",
    "a: !!set {x, y}",
    "a: !!binary aGFsbG8=",
    "a: !!timestamp 2026-01-01",
    "a: !!python/tuple [1]",
    "a: !!python/object/apply:os.system [true]",
    "a: !mine 1",
    "a: &x [1]\nb: *x",
    "a: &x [*x]",
    "- 1",
    "just text",
    "",
    "a: [",
    "a: \x1b",
    "? [1]\n: 2",
    "a: " + "[" * 40 + "]" * 40,
    "a: " + "[" * 5000,
    "a: " + "- " * 5000,
    "a: [" + "0," * 60_000 + "]",
]


def is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(is_plain(each) for pair in value.items() for each in pair)
    if isinstance(value, list):
        return all(map(is_plain, value))
    return value is None or type(value) in (bool, int, float, str)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_settings_are_mappings_lists_and_scalars_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(DamagedFile, match=r"config\.yaml is damaged"):
        read_yaml(path)


def test_a_bomb_of_aliases_is_named_at_once(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    path = tmp_path / "config.yaml"
    path.write_text("\n".join(lines))
    assert path.stat().st_size < 2000
    with pytest.raises(DamagedFile, match="repeats a part by an alias"):
        read_yaml(path)


def test_files_of_a_run_are_read_with_dates_as_text(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("group: 2026-01-01\nseed: 0\nnet: {start: null, scale: 1.0}\nfiles: [a, b]\n")
    content = {"group": "2026-01-01", "seed": 0, "files": ["a", "b"]}
    assert read_yaml(path) == {**content, "net": {"start": None, "scale": 1.0}}


@FUZZ
@given(text=st.text() | st.sampled_from(HOSTILE) | PLAIN.map(lambda value: yaml.dump({"a": value})))
def test_any_text_is_plain_settings_or_damaged(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text, errors="replace")
    with suppress(DamagedFile):
        content = read_yaml(path)
        assert isinstance(content, dict)
        assert is_plain(content)


class _Known(TypedDict):
    """A record of one entry."""

    a: Any


@FUZZ
@given(content=st.binary() | PLAIN.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_record_or_damaged(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "metrics.json"
    path.write_bytes(content)
    with suppress(DamagedFile):
        read = read_json(path, _Known)
        assert isinstance(read, dict)
        assert "a" in read


def test_irregular_and_large_files_are_damaged(tmp_path: Path) -> None:
    deep, large, pipe, device = (tmp_path / name for name in ("deep", "large", "pipe", "device"))
    deep.write_text('{"a": ' + "[" * 100_000)
    large.touch()
    os.truncate(large, 2**26)  # takes no space
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    for path, reason in (
        *((deep, "nested too deeply"), (large, "67108864 bytes"), (pipe, "not a regular file")),
        *((device, "not a regular file"), (tmp_path, "not a regular file")),
    ):
        for read in (read_json, read_yaml):
            if (path, read) != (deep, read_yaml):
                with pytest.raises(DamagedFile, match=reason):
                    read(path)
    assert read_json(tmp_path / "none") is None
    write_json(tmp_path / "whole", {"a": 1})
    assert read_json(tmp_path / "whole", _Known) == {"a": 1}


def test_links_below_a_folder_are_not_followed(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    for place in (folder / "own", elsewhere):
        place.mkdir(parents=True)
        (place / "file").touch()
    (folder / "linked").symlink_to(elsewhere)
    (folder / "own" / "link").symlink_to(elsewhere / "file")
    assert list(below(folder, "*/*")) == [folder / "own" / "file"]
    (tmp_path / "way").symlink_to(folder)  # a link to the run itself is the user's
    assert list(below(tmp_path / "way", "*/file")) == [tmp_path / "way" / "own" / "file"]
