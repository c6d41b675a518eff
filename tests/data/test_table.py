"""Columns of many files read as those of one, damage is noticed, and members are found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from portraitlab.data.photos import members_of
from portraitlab.data.schema import CAPTIONS, COLUMNS, PHOTOS, encoded
from portraitlab.data.shards import FORMAT, Shard, is_whole, write_shard
from portraitlab.data.table import ShardTable, Strings, records
from portraitlab.support.files import DamagedFile
from portraitlab.types import FaceGeometry

ROWS = 12


def values() -> dict[str, object]:
    generator = np.random.default_rng(0)
    return {
        "identity": [f"person {row % 5}" for row in range(ROWS)],
        "name": [f"{ROWS - row:02}.png" for row in range(ROWS)],
        "digest": [bytes([row]) * 32 for row in range(ROWS)],
        "caption": list(range(ROWS)),
        "flawed": [row % 3 == 0 for row in range(ROWS)],
        "image": generator.integers(0, 256, (ROWS, 6, 6, 3), dtype=np.uint8),
        "person_mask": generator.random((ROWS, 6, 6)) < 0.5,
        "latents": generator.normal(size=(ROWS, 2, 3)).astype(np.float16),
        "score": generator.random(ROWS).astype(np.float32),
    }


def written(folder: Path, sizes: list[int]) -> list[Path]:
    """Write the rows to files of these sizes."""
    paths, start = [], 0
    for number, size in enumerate(sizes):
        part = {name: column[start : start + size] for name, column in values().items()}
        paths.append(folder / f"{number}.arrow")
        write_shard(paths[-1], [encoded(part)] if size else [])
        start += size
    return paths


@pytest.mark.parametrize("sizes", [[12], [5, 0, 1, 6], [1] * 12])
def test_rows_of_many_files_are_those_of_one(sizes: list[int], tmp_path: Path) -> None:
    table, given = ShardTable(written(tmp_path, sizes)), values()
    columns = table.columns()
    latents = torch.from_numpy(given["latents"]).float()
    for rows in ([11, 0, 4, 4], torch.tensor([[5, 6], [0, 11]]), [7], torch.tensor(3)):
        got = columns["latents"][rows]
        assert got.dtype == torch.float32
        assert torch.equal(got, latents[rows])
    assert columns["caption"][[2, 9]].dtype == torch.int64
    assert columns["caption"][[2, 9]].tolist() == [2, 9]
    for name in ("image", "person_mask"):
        assert torch.equal(columns[name][[11, 3]], torch.from_numpy(given[name][[11, 3]]))
    for name in ("identity", "name", "flawed", "caption"):
        assert table.all(name) == given[name]
    assert [*Strings(table, "name", [3, 0])] == [given["name"][3], given["name"][0]]
    assert len(table) == ROWS
    assert "latents" in table
    assert "local" not in table


def test_rows_may_be_numbered_by_their_names(tmp_path: Path) -> None:
    table, given = ShardTable(written(tmp_path, [5, 7]), sort=("identity", "name")), values()
    order = sorted(range(ROWS), key=lambda row: (given["identity"][row], given["name"][row]))
    assert table.order.tolist() == order
    assert table.all("name") == [given["name"][row] for row in order]
    rows = torch.tensor([[5, 6, 5], [0, 11, 1]])
    expected = torch.from_numpy(given["latents"][order]).float()[rows]
    assert torch.equal(table.columns()["latents"][rows], expected)


def test_columns_in_memory_keep_their_precision(tmp_path: Path) -> None:
    loaded = ShardTable(written(tmp_path, [12])).loaded()
    assert torch.equal(loaded["latents"], torch.from_numpy(values()["latents"]))
    assert loaded["image"][[1]].shape == (1, 6, 6, 3)
    geometry = records(FaceGeometry, loaded["latents"], loaded["score"], None)
    assert isinstance(geometry, FaceGeometry)


def test_records_are_read_by_row_and_a_field_without_a_column_is_none(tmp_path: Path) -> None:
    columns = ShardTable(written(tmp_path, [5, 7])).columns()
    geometry = records(FaceGeometry, columns["latents"], columns["score"], None)
    found = geometry[torch.tensor([[0, 1, 3]])]
    assert found.keypoints.shape == (1, 3, 2, 3)
    assert found.coefficients is None


def test_any_changed_byte_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    (path,) = written(tmp_path, [12])
    whole = path.read_bytes()
    expected = {name: Shard(path).checked(name).to_pylist() for name in values()}
    missed = 0
    for place in range(0, len(whole), 11):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            (table,) = ShardTable([path]).check().shards
        except DamagedFile:
            continue
        missed += 1
        assert {name: table.checked(name).to_pylist() for name in values()} == expected
    assert missed < len(whole) / 22  # padding between buffers
    for end in range(0, len(whole), 97):
        path.write_bytes(whole[:end])
        assert not is_whole(path)


@pytest.mark.parametrize("name", ["latents", "image", "score"])
def test_the_rows_that_are_read_are_checked_and_no_others(tmp_path: Path, name: str) -> None:
    (path,) = written(tmp_path, [12])
    row = values()[name][3]
    encoded_row = Shard(path).checked(name)[3].as_py() if name == "image" else row.tobytes()
    whole = path.read_bytes()
    place = whole.index(encoded_row)
    changed = bytes(byte ^ 1 for byte in whole[place : place + 2])
    path.write_bytes(whole[:place] + changed + whole[place + 2 :])
    column = ShardTable([path]).columns()[name]
    assert len(column[[2, 4, 11]]) == 3
    for _ in range(2):
        with pytest.raises(DamagedFile, match=rf"0\.arrow is damaged \(its column {name}.*same c"):
            column[[2, 3]]
    with pytest.raises(DamagedFile, match=rf"its column {name}"):
        ShardTable([path]).check()


def test_a_file_of_another_format_is_refused_with_the_remedy(tmp_path: Path) -> None:
    batch = pa.RecordBatch.from_pydict({"identity": ["a"]})
    with (tmp_path / "old.arrow").open("wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    match = rf"has format unknown, and {FORMAT} is read; prepare the photos again"
    with pytest.raises(DamagedFile, match=match):
        Shard(tmp_path / "old.arrow")


def test_a_column_that_the_schema_does_not_name_is_not_written() -> None:
    with pytest.raises(KeyError, match="depth"):
        encoded({"depth": [1.0]})
    assert len(COLUMNS) == len(PHOTOS) + len(CAPTIONS)


def test_strings_are_read_one_by_one_and_end(tmp_path: Path) -> None:
    strings = Strings(ShardTable(written(tmp_path, [5, 7])), "name")
    assert [*strings] == values()["name"]
    assert strings[np.int64(1)] == values()["name"][1]
    with pytest.raises(IndexError, match=r"row 12 is outside 0\.\.11"):
        strings[12]


def test_members_are_those_that_a_walk_finds() -> None:
    class Store:
        def owners(self):
            return list("abcde"), np.random.default_rng(1).integers(0, 5, 40)

    names, owner = Store().owners()
    requested = ["d", "nobody", "a", "c"]
    members = members_of(Store(), requested)
    found = np.split(members.rows, members.counts.cumsum()[:-1])
    for rows, name in zip(found, requested, strict=True):
        assert rows.tolist() == [row for row in range(40) if names[owner[row]] == name]
    assert members.counts.sum() == len(members.rows)
