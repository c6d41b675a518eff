"""Mapped rows equal those of one tensor, and members those found by a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from portraitlab.data.members import members_of
from portraitlab.data.rows import MappedColumn, MappedGeometry, MappedStrings


def mapped(values: np.ndarray, sizes: list[int]) -> MappedColumn:
    stops = np.cumsum(sizes)
    return MappedColumn(np.split(values, stops[:-1]), stops - sizes)


@pytest.mark.parametrize("sizes", [[12], [5, 1, 6], [1] * 12])
def test_rows_of_many_files_are_those_of_one_tensor(sizes: list[int]) -> None:
    values = np.random.default_rng(0).normal(size=(12, 2, 3)).astype(np.float16)
    column, whole = mapped(values, sizes), torch.from_numpy(values).float()
    for rows in ([11, 0, 4, 4], torch.tensor([[5, 6], [0, 11]]), [7], torch.tensor(3)):
        got = column[rows]
        assert got.dtype == torch.float32
        assert torch.equal(got, whole[rows])
    numbers = mapped(np.arange(12, dtype=np.int32), sizes)[[2, 9]]
    assert numbers.dtype == torch.int64
    assert numbers.tolist() == [2, 9]


def test_rows_may_be_numbered_in_another_order_than_they_are_stored() -> None:
    values = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    order = np.random.default_rng(1).permutation(12)
    column = MappedColumn(np.split(values, [5, 6]), np.array([0, 5, 6]), order)
    rows = torch.tensor([[5, 6, 5], [0, 11, 1]])
    assert torch.equal(column[rows], torch.from_numpy(values[order])[rows])


def test_geometry_without_a_3dmm_has_no_coefficients() -> None:
    keypoints = mapped(np.zeros((4, 5, 2), np.float32), [4])
    score = mapped(np.ones(4, np.float32), [4])
    geometry = MappedGeometry(keypoints, score, None)[torch.tensor([[0, 1, 3]])]
    assert geometry.keypoints.shape == (1, 3, 5, 2)
    assert geometry.coefficients is None


def test_strings_are_read_one_by_one_and_end() -> None:
    strings = MappedStrings(3, lambda row: f"photo {row}")
    assert [*strings] == strings[:] == ["photo 0", "photo 1", "photo 2"]
    assert strings[np.int64(1)] == "photo 1"
    with pytest.raises(IndexError, match="row 3 is outside 0\\.\\.2"):
        strings[3]


def test_members_are_those_that_a_walk_finds() -> None:
    class Store:
        def owners(self):
            return list("abcde"), np.random.default_rng(1).integers(0, 5, 40)

    names, owner = Store().owners()
    requested = ["d", "nobody", "a", "c"]
    members = members_of(Store(), requested)
    for number, name in enumerate(requested):
        expected = [row for row in range(40) if names[owner[row]] == name]
        assert members.of(number).tolist() == expected
    assert members.counts.sum() == len(members.rows)
