"""Check that a table keeps the pictures and losses that its figures need without runs."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from PIL import Image
from written_table import PEOPLE, SHOWN, declared, write_results

from portraitlab.scoring.pictures import save
from portraitlab.support.files import DamagedFile
from portraitlab.tables.curve import short_curve
from portraitlab.tables.figures.sheet import picture_sheet
from portraitlab.tables.results import read_results, result_path
from portraitlab.tables.shown import keep_pictures, read_pictures


def test_rows_are_shown_under_what_they_were_given(tmp_path: Path) -> None:
    table = write_results(declared(tmp_path / "t"))
    shown = read_pictures(table, read_results(table))
    assert shown is not None
    assert list(shown.people) == PEOPLE[:SHOWN]
    assert [row.name for row in shown.rows] == [row.name for row in table.rows]
    for person in range(SHOWN):
        assert shown.targets[person].getpixel((0, 0)) == (40 * person + 60, 0, 0)
        looks = [picture.getpixel((0, 0))[1] for picture in shown.references[person]]
        assert looks == [30, 60, 90, 120]
    for place, row in enumerate(shown.rows):
        assert [p.getpixel((3, 3))[2] for p in row.portraits] == [20 * place] * SHOWN


def test_pictures_are_kept_of_the_first_seed_in_their_own_size(tmp_path: Path) -> None:
    table = write_results(declared(tmp_path / "t"))
    assert len(list((table.folder / "results").glob("*.png"))) == len(table.rows) + 1
    with Image.open(result_path(table.folder, table.rows[0], 0).with_suffix(".png")) as strip:
        assert strip.size == (8 * SHOWN, 8)


def test_rows_with_fewer_references_share_the_first_ones(tmp_path: Path) -> None:
    for first, second in ((2, 4), (4, 2)):
        table = declared(tmp_path / f"{first}", seeds=(0,))
        names = [row.name for row in table.rows]
        write_results(table, [(name, 0) for name in names[:2]], refs=first)
        write_results(table, [(name, 0) for name in names[2:]], refs=second)
        shown = read_pictures(table, read_results(table))
        assert shown is not None
        assert [row.name for row in shown.rows] == names
        assert [len(own) for own in shown.references] == [4] * SHOWN


def test_what_was_drawn_from_other_photos_is_not_shown_under_these(tmp_path: Path) -> None:
    table = declared(tmp_path / "t", seeds=(0,))
    names = [row.name for row in table.rows]
    write_results(table)
    write_results(table, [(name, 0) for name in names[1:]], shade=99)
    shown = read_pictures(table, read_results(table))
    assert shown is not None
    assert [row.name for row in shown.rows] == names[:1]


def test_a_sheet_has_a_line_for_each_row_that_has_pictures(tmp_path: Path) -> None:
    table = declared(tmp_path / "t", seeds=(0,))
    write_results(table)
    shown = read_pictures(table, read_results(table))
    assert shown is not None
    whole = picture_sheet(shown)
    result_path(table.folder, table.rows[0], 0).with_suffix(".png").unlink()
    less = read_pictures(table, read_results(table))
    assert less is not None
    assert whole.height - picture_sheet(less).height == 134
    for row in table.rows:
        result_path(table.folder, row, 0).with_suffix(".png").unlink(missing_ok=True)
    assert read_pictures(table, read_results(table)) is None


@pytest.mark.parametrize("name", ["people.png", "concat-0.png"])
def test_a_damaged_picture_is_one_message(tmp_path: Path, name: str) -> None:
    table = write_results(declared(tmp_path / "t", seeds=(0,)))
    path = table.folder / "results" / name
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DamagedFile, match=f"{name} is damaged .*delete the file"):
        read_pictures(table, read_results(table))


def test_no_samples_are_no_pictures(tmp_path: Path) -> None:
    assert keep_pictures(tmp_path / "samples", tmp_path / "row-0.png") is None
    assert not (tmp_path / "row-0.png").exists()


def test_pictures_of_full_size_are_kept_small_and_in_the_order_of_their_numbers(
    tmp_path: Path,
) -> None:
    names = ["generated", "target", *(f"reference-{number}" for number in range(1, 12))]
    for shade, name in enumerate(names):
        picture = Image.new("RGB", (512, 512), (20 * shade, 0, 0))
        save(picture, tmp_path / "samples" / "ann" / f"{name}.png")
    assert keep_pictures(tmp_path / "samples", tmp_path / "row-0.png") is not None
    with Image.open(tmp_path / "people.png") as people:
        assert people.size == (128, 12 * 128)
        shades = [people.getpixel((64, 128 * line + 64))[0] for line in range(12)]
    assert shades == [20 * shade % 256 if shade < 13 else 0 for shade in range(1, 13)]


@pytest.mark.parametrize("count", [0, 1, 79, 80, 81, 400, 401])
def test_a_curve_is_short_and_keeps_the_mean(count: int) -> None:
    lines = [{"step": n + 1, "train/loss": float(n), "learning_rate": 0.1} for n in range(count)]
    curve = short_curve(lines)
    if not count:
        assert curve == {}
        return
    assert set(curve) == {"step", "train/loss"}
    assert len(curve["step"]) == len(curve["train/loss"]) <= 80
    assert curve["step"] == sorted(curve["step"], key=float)
    if count in (80, 400):
        losses = [loss for loss in curve["train/loss"] if loss is not None]
        assert sum(losses) / len(losses) == pytest.approx((count - 1) / 2)


def test_a_curve_leaves_out_what_is_no_number() -> None:
    lines = [
        {"step": 1, "train/loss": math.nan},
        {"step": 2, "train/loss": 1.0},
        {"step": 3, "train/identity": 2.0},
        {"step": 4, "train/loss": math.inf},
    ]
    assert short_curve(lines, points=2) == {
        "step": [1.5, 3.5],
        "train/loss": [1.0, None],
        "train/identity": [None, 2.0],
    }
