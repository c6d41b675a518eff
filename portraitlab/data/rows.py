"""Values of photos by row, in memory or mapped from files and read on access."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from portraitlab.types import FaceCoefficients, FaceGeometry, TextFeatures

_Record = TypeVar("_Record", covariant=True)


class Rows(Protocol[_Record]):
    """Values of P photos: a tensor or record [P, …], or an object that reads one."""

    def __getitem__(self, rows: Any) -> _Record:
        """Return the values of rows [B, …], a tensor or a list of numbers from 0 to P-1."""
        ...


class MappedColumn:
    """One column stored over many files, one array [n, …] a file, read only on access.

    parts: the arrays, mapped from disk. starts: first row of each, ascending from 0. order [P]: the
    stored row of each row; None if they are the same. Numbers are returned in single precision and
    integers as long, whatever their stored type.
    """

    def __init__(
        self,
        parts: Sequence[NDArray[Any]],
        starts: NDArray[np.int64],
        order: NDArray[np.int64] | None = None,
    ) -> None:
        self.parts = parts
        self.starts = starts
        self.order = order
        self.shape = parts[0].shape[1:]
        self.dtype = np.int64 if np.issubdtype(parts[0].dtype, np.integer) else np.float32

    def __getitem__(self, rows: Any) -> Tensor:
        """Return the values [B, …] of rows [B], any shape of rows."""
        places = np.asarray(rows, dtype=np.int64)
        flat = places.ravel() if self.order is None else self.order[places.ravel()]
        gathered = np.empty((len(flat), *self.shape), self.dtype)
        numbers = np.searchsorted(self.starts, flat, side="right") - 1
        for number in np.unique(numbers):
            here = numbers == number
            gathered[here] = self.parts[number][flat[here] - self.starts[number]]
        return torch.from_numpy(gathered.reshape((*places.shape, *self.shape)))


@dataclass(frozen=True)
class ReadRows:
    """Values of photos [P, …] that `read` returns for rows [B]."""

    read: Callable[[Any], Tensor]

    def __getitem__(self, rows: Any) -> Tensor:
        """Return the values [B, …] of rows [B]."""
        return self.read(rows)


@dataclass(frozen=True)
class MappedGeometry:
    """FaceGeometry of photos; coefficients are None if no 3DMM was fitted."""

    keypoints: Rows[Tensor]
    score: Rows[Tensor]
    coefficients: tuple[Rows[Tensor], Rows[Tensor], Rows[Tensor]] | None

    def __getitem__(self, rows: Any) -> FaceGeometry:
        """Return the geometry [B] of rows [B]."""
        known = self.coefficients
        return FaceGeometry(
            self.keypoints[rows],
            self.score[rows],
            None if known is None else FaceCoefficients(*(column[rows] for column in known)),
        )


@dataclass(frozen=True)
class MappedText:
    """Text features of prompts; pooled and sizes are None if the backbone has none."""

    words: Rows[Tensor]
    pooled: Rows[Tensor] | None
    sizes: Rows[Tensor] | None

    def __getitem__(self, rows: Any) -> TextFeatures:
        """Return the features [B] of the prompts in rows [B]."""
        return TextFeatures(
            self.words[rows],
            None if self.pooled is None else self.pooled[rows],
            None if self.sizes is None else self.sizes[rows],
        )


class MappedStrings(Sequence[str]):
    """Strings of many rows, each read on access.

    read: returns the string of a row in 0..length-1.
    """

    def __init__(self, length: int, read: Callable[[int], str]) -> None:
        self._length = length
        self._read = read

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, row: int) -> str: ...

    @overload
    def __getitem__(self, row: slice) -> list[str]: ...

    def __getitem__(self, row: int | slice) -> str | list[str]:
        """Return one string, or those of a slice."""
        if isinstance(row, slice):
            return [self._read(each) for each in range(*row.indices(self._length))]
        if not 0 <= row < self._length:
            raise IndexError(f"row {row} is outside 0..{self._length - 1}")
        return self._read(int(row))
