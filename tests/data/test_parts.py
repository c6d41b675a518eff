"""Several processes share one preparation, and the store does not depend on their number."""

from __future__ import annotations

import os
import shutil
from itertools import product
from pathlib import Path

import pytest
from part_work import double, fall, refuse
from prepared_photos import contents

from portraitlab.data.prepare.devices import device_shares, on_each
from portraitlab.data.prepare.part import StorePart, claimed
from portraitlab.data.prepare.prepare import PrepareOptions, prepare
from portraitlab.data.prepared import PreparedPhotos
from portraitlab.faces.matting.none import NoMatting
from portraitlab.support.share import Share

OPTIONS = PrepareOptions(
    caption="a photo of a person", minimum_side=32, precision="float32", shard=2, batch=2
)
PARTS = [StorePart(number, count) for count in (1, 2, 3, 4, 6, 8) for number in range(1, count + 1)]


def test_parts_have_each_piece_once() -> None:
    pieces = list(range(48))
    for count in (1, 2, 5, 8, 60):
        parts = [StorePart(number, count) for number in range(1, count + 1)]
        assert sorted(piece for part in parts for piece in part.of(pieces)) == pieces
    for part, count in product(PARTS, (1, 2, 3)):
        split = part.split(count)
        assert sorted(piece for each in split for piece in each.of(pieces)) == [*part.of(pieces)]


def test_parts_overlap_where_they_share_a_piece() -> None:
    pieces = range(48)
    for one, other in product(PARTS, PARTS):
        shared = set(one.of(pieces)) & set(other.of(pieces))
        assert one.overlaps(other) == bool(shared)


def test_what_is_no_part_is_refused() -> None:
    assert StorePart.parse("2/8") == StorePart(2, 8)
    for text in ("2", "2/", "-1/2", "1/2/3", "two/8", ""):
        with pytest.raises(ValueError, match=r"--part=.*give NUMBER/COUNT, such as 2/8"):
            StorePart.parse(text)
    for text in ("0/8", "9/8", "0/0"):
        with pytest.raises(ValueError, match=rf"--part={text}: the first number must be from 1"):
            StorePart.parse(text)


@pytest.fixture
def make(sound, tmp_path, frozen):
    root = tmp_path / "photos"
    for person in ("person 0", "person 1"):
        shutil.copytree(sound / person, root / person)

    def run(out: str, part: str = "1/1"):
        made = tmp_path / out
        return prepare(
            root, made, frozen, NoMatting(), OPTIONS, workers=0, part=StorePart.parse(part)
        )

    return run


def test_parts_make_the_bytes_of_one_process_in_any_order_and_number(make, tmp_path) -> None:
    finished = make("whole")
    assert finished["photos"] == 9
    whole = contents(tmp_path / "whole")
    for out, parts in (
        ("in order", ("1/3", "2/3", "3/3")),
        ("in another order", ("2/2", "1/2")),
        ("in another number", ("3/3", "1/2", "1/1")),
    ):
        *first, last = parts
        for part in first:
            assert make(out, part) is None
            with pytest.raises(ValueError, match="not all prepared yet"):
                PreparedPhotos(tmp_path / out)
        assert make(out, last) == finished
        assert contents(tmp_path / out) == whole


def test_a_part_does_not_do_what_is_done(make, tmp_path) -> None:
    make("out", "2/3")
    shutil.copytree(tmp_path / "out", tmp_path / "again")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("0*.arrow")}
    make("out", "2/3")
    make("out")
    assert times == {path: path.stat().st_mtime_ns for path in times}
    (tmp_path / "again" / "photos" / "000001.arrow").write_bytes(b"cut")
    (tmp_path / "again" / "photos" / "000004.arrow").unlink()
    make("again", "2/2")
    make("again", "1/2")
    assert contents(tmp_path / "again") == contents(tmp_path / "out")


def test_a_part_that_another_process_has_is_refused(make, tmp_path) -> None:
    make("out", "1/4")
    out = tmp_path / "out"
    with claimed(out, StorePart(2, 4)):
        with pytest.raises(ValueError, match=r"Part 2/4 of .*cannot be started.*works on it now"):
            make("out", "2/4")
        with pytest.raises(ValueError, match=r"Part 2/2 .*works on pieces of it, as part 2/4, now"):
            make("out", "2/2")
        with pytest.raises(ValueError, match=r"Part 1/1 .*as part 2/4.*another --part with"):
            make("out")
        make("out", "1/2")
    assert make("out")["photos"] == 9


def test_processes_of_devices_answer_or_say_what_is_wrong() -> None:
    parts, shares = StorePart().split(2), [Share()] * 2
    assert sorted(on_each(double, parts, shares)) == [2, 4]
    with pytest.raises(ValueError, match=r"part 2/2 was killed \(exit code -9\).*same command"):
        on_each(fall, parts, shares)
    with pytest.raises(ValueError, match=r"^1/1 is none$"):
        on_each(refuse, parts=[StorePart()], shares=[Share()])


def test_devices_share_the_machine_out() -> None:
    cores = sorted(os.sched_getaffinity(0))
    trainer = {"accelerator": "cpu", "devices": 1}
    assert device_shares(trainer) == [Share(tuple(cores))]
    many = device_shares(trainer | {"devices": len(cores)})
    assert [share.cores for share in many] == [(core,) for core in cores]
    with pytest.raises(ValueError, match=r"trainer\.devices=4096, and there are \d+ cores"):
        device_shares(trainer | {"devices": 4096})


def test_a_part_given_wrongly_is_said_before_any_model_is_read(tmp_path, capsys) -> None:
    from portraitlab.app.cli.main import main

    assert main(["data", "prepare", "--part", "3/2", str(tmp_path), str(tmp_path / "out")]) == 1
    assert "--part=3/2: the first number must be from 1" in capsys.readouterr().err
    assert not Path(tmp_path / "out").exists()
