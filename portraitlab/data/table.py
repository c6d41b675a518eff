"""Columns of photos in many files as one table, mapped and read by row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor

from portraitlab.data.schema import pixels_of
from portraitlab.data.shards import Shard

_Record = TypeVar("_Record", covariant=True)


class Rows(Protocol[_Record]):
    """Values of P photos: a tensor or record [P, …], or an object that reads one."""

    def __getitem__(self, rows: Any) -> _Record:
        """Return the values of rows [B, …], a tensor or a list of numbers from 0 to P-1."""
        ...


class ShardTable:
    """The columns of several shards, one after the other; shards without rows are dropped.

    sort: text columns by which rows are numbered; without any, as they are stored. Attributes:
    `order` [P], the stored row of each row, and `shards`.
    """

    def __init__(self, paths: Iterable[Path], sort: Sequence[str] = ()) -> None:
        self.shards = [shard for shard in map(Shard, paths) if shard.rows]
        ends = np.cumsum([0, *(shard.rows for shard in self.shards)])
        self.starts, self.length = ends[:-1], int(ends[-1])
        self.order: NDArray[np.int64] | None = None
        if sort:
            keys = pa.table({name: self.chunks(name) for name in sort if self.shards})
            order = pc.sort_indices(keys, [(name, "ascending") for name in keys.column_names])
            self.order = order.to_numpy().astype(np.int64)

    def __len__(self) -> int:
        return self.length

    def __contains__(self, name: object) -> bool:
        return bool(self.shards) and name in self.shards[0].columns

    def check(self) -> ShardTable:
        """Compare all columns with their sums; raises DamagedFile."""
        for shard in self.shards:
            for name in shard.columns:
                shard.checked(name)
        return self

    def chunks(self, name: str) -> pa.ChunkedArray:
        """Return a column of plain values in the order in which it is stored."""
        return pa.chunked_array([shard.checked(name) for shard in self.shards])

    def all(self, name: str) -> list[Any]:
        """Return all values of a column of plain values; equal strings are one object."""
        chunks = self.chunks(name)
        if pa.types.is_string(chunks.type):
            coded = chunks.combine_chunks().dictionary_encode()
            values = np.array(coded.dictionary.to_pylist(), object)[coded.indices.to_numpy()]
        else:
            values = chunks.to_numpy()
        return list((values if self.order is None else values[self.order]).tolist())

    def split(
        self, rows: NDArray[np.int64]
    ) -> Iterable[tuple[Shard, NDArray[np.bool_], NDArray[np.int64]]]:
        """Yield for each shard with some of rows [B]: which these are, and their rows in it."""
        stored = rows if self.order is None else self.order[rows]
        numbers = np.searchsorted(self.starts, stored, side="right") - 1
        for number in np.unique(numbers):
            here = numbers == number
            yield self.shards[number], here, stored[here] - self.starts[number]

    def value(self, name: str, row: int) -> Any:
        """Read the value of a column in one row."""
        ((shard, _, places),) = self.split(np.array([row]))
        return shard.checked(name, places)[int(places[0])].as_py()

    def columns(self) -> dict[str, Rows[Tensor]]:
        """Return the columns of numbers and of pictures, which are read on access."""
        types = self.shards[0].columns if self.shards else {}
        return {
            name: PictureColumn(self, name)
            if pa.types.is_large_binary(kind)
            else Numbers(self, name)
            for name, kind in types.items()
            if not (pa.types.is_string(kind) or pa.types.is_fixed_size_binary(kind))
        }

    def loaded(self) -> dict[str, Rows[Tensor]]:
        """Return the columns of one shard, those of numbers in memory as they are stored."""
        (shard,) = self.shards
        return {
            name: column if isinstance(column, PictureColumn) else torch.tensor(shard.numbers(name))
            for name, column in self.columns().items()
        }


class Numbers:
    """A column of numbers, each row a tensor, read on access.

    Numbers are returned in single precision and integers as long, whatever their stored type.
    """

    def __init__(self, table: ShardTable, name: str) -> None:
        self.table, self.name = table, name
        kind = table.shards[0].columns[name]
        tensor = isinstance(kind, pa.FixedShapeTensorType)
        self.shape = tuple(kind.shape) if tensor else ()
        floating = pa.types.is_floating(kind.value_type if tensor else kind)
        self.dtype = np.float32 if floating else np.int64

    def __getitem__(self, rows: Any) -> Tensor:
        """Return the values [B, …] of rows [B], any shape of rows."""
        places = np.asarray(rows, dtype=np.int64)
        gathered = np.empty((places.size, *self.shape), self.dtype)
        for shard, here, within in self.table.split(places.ravel()):
            shard.checked(self.name, within)
            gathered[here] = shard.numbers(self.name)[within]
        return torch.from_numpy(gathered.reshape((*places.shape, *self.shape)))


class PictureColumn:
    """A column of pictures uint8 [P, S, S, 3] or masks bool [P, S, S], decoded on access."""

    def __init__(self, table: ShardTable, name: str) -> None:
        self.table, self.name = table, name

    def __getitem__(self, rows: Any) -> Tensor:
        """Return the pictures of rows [B]."""
        values = (self.table.value(self.name, int(row)) for row in rows)
        return torch.from_numpy(np.stack([pixels_of(value) for value in values]))


class Strings(Sequence[str]):
    """The strings of a column, each read on access: of all rows, or of those in `at`."""

    def __init__(
        self, table: ShardTable, name: str, at: Sequence[int] | Tensor | None = None
    ) -> None:
        self.table, self.name = table, name
        self.rows = range(len(table)) if at is None else at

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: Any) -> Any:
        """Return one string. Raises IndexError for other rows."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} is outside 0..{len(self) - 1}")
        return self.table.value(self.name, int(self.rows[row]))


@dataclass(frozen=True)
class Records(Generic[_Record]):
    """Records of photos: `kind` of the columns of its fields, None for a field without one."""

    kind: Callable[..., _Record]
    columns: tuple[Rows[Any] | None, ...]

    def __getitem__(self, rows: Any) -> _Record:
        """Return the record [B] of rows [B]."""
        return self.kind(*(None if column is None else column[rows] for column in self.columns))


def records(kind: Callable[..., _Record], *columns: Rows[Any] | None) -> Rows[_Record]:
    """Join columns to records: one in memory if all columns are."""
    if any(isinstance(column, Numbers | Records) for column in columns):
        return Records(kind, columns)
    return kind(*columns)  # type: ignore[return-value]  # a record of tensors has rows
