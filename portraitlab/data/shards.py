"""Files of columns: written atomically with sums, mapped, and checked row by row when read."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from portraitlab.support.files import DamagedFile

FORMAT = 5
"""Version of all stored photos; part of the key of cached ones, checked wherever a file is opened.

Raise it whenever the same names or recipe come to mean other contents.
"""

_ABOUT, _SUM = b"about", b"sum"
_SUMS = "sums"  # of each row: one number a column


def write_shard(path: Path, batches: Sequence[pa.RecordBatch], **about: Any) -> None:
    """Write batches of the same columns as an Arrow file of one record batch, atomically.

    It is complete and synced to disk under its name, or not there. about: plain values to store
    with it, such as the photos that were left out, so that a shard is self-contained and no two
    processes write to one file.
    """
    batch = pa.concat_batches(batches) if batches else pa.RecordBatch.from_pydict({})
    # Once through the wire format, which cuts the buffers to what a reader will see.
    batch = pa.ipc.read_record_batch(batch.serialize(), batch.schema)
    parts = {name: _Parts(batch[name]) for name in batch.schema.names}
    if parts:
        sums = np.array([[each.sum(row) for each in parts.values()] for row in range(len(batch))])
        tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(sums.astype(np.uint32))
        batch = batch.append_column(_SUMS, tensors)
    frames = {name: _Parts(batch[name]).frame for name in batch.schema.names}
    described = {"format": FORMAT, "rows": len(batch), "kinds": _kinds(batch), "frames": frames}
    text = json.dumps(described | about).encode()
    batch = batch.replace_schema_metadata({_ABOUT: text, _SUM: str(zlib.crc32(text))})
    unfinished = path.with_name(f"unfinished-{path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with unfinished.open("wb") as sink:
        with pa.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)
        sink.flush()
        os.fsync(sink.fileno())
    unfinished.replace(path)
    # Until the folder's names are on disk too, a power cut may undo the renaming.
    number = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def check_format(path: Path, found: object) -> None:
    """Raise DamagedFile for a file or folder of another format."""
    if found != FORMAT:
        raise DamagedFile(
            f"{path} has format {found}, and {FORMAT} is read; prepare the photos again into "
            "another folder."
        )


def is_whole(path: Path) -> bool:
    """Return True if a shard exists and is not truncated; its columns are not read."""
    try:
        Shard(path)
    except DamagedFile:
        return False
    return True


class Shard:
    """The columns of one file, mapped; each row is compared with its sum when it is first read.

    Attributes: `path`, `rows` (their number), `columns` (their types) and `about` (what was stored
    with it). Raises DamagedFile, with the remedy for prepared photos, where the file is missing, of
    another format, truncated or otherwise not as it was written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # Close at once, which keeps the mapping: thousands of shards would exhaust open files.
            with pa.memory_map(str(path)) as file:
                self._batch = pa.ipc.open_file(file).get_batch(0)
            types = {field.name: field.type for field in self._batch.schema}
            kinds = _kinds(self._batch)
        except FileNotFoundError as error:
            raise self._damaged("is missing") from error
        except (OSError, ValueError, MemoryError, pa.ArrowException) as error:
            raise self._damaged(f"cannot be read ({error})") from error
        # Compare the description with its sum, then the file with the description.
        metadata = self._batch.schema.metadata or {}
        text = metadata.get(_ABOUT, b"{}")
        whole = str(zlib.crc32(text)).encode() == metadata.get(_SUM)
        self.about: dict[str, Any] = json.loads(text) if whole else {}
        found = self.about.get("format", "unknown") if whole or _SUM not in metadata else FORMAT
        check_format(path, found)
        self.rows = len(self._batch)
        self.columns = {name: kind for name, kind in types.items() if name != _SUMS}
        if (self.about.get("rows"), self.about.get("kinds")) != (self.rows, kinds):
            raise self._damaged("is damaged (its description is not as it was written)")
        self._parts: dict[str, tuple[_Parts, NDArray[np.bool_]]] = {}
        self._numbers: dict[str, NDArray[Any]] = {}

    def checked(self, name: str, rows: Sequence[int] | NDArray[np.int64] | None = None) -> pa.Array:
        """Return a column of which `rows` are as they were written; all rows if None.

        Each row is compared with its sum when it is first read. Raises DamagedFile.
        """
        for each in (name, _SUMS):
            if each not in self._parts:
                parts = _Parts(self._batch[each])
                if parts.frame != self.about["frames"][each]:
                    raise self._damaged(_changed(each))
                self._parts[each] = parts, np.zeros(self.rows, bool)
        parts, done = self._parts[name]
        wanted = np.arange(self.rows) if rows is None else np.asarray(rows)
        place = [*self.columns].index(name)
        for row in wanted[~done[wanted]]:
            if parts.sum(row) != self.numbers(_SUMS)[row, place]:
                raise self._damaged(_changed(name))
            done[row] = True
        return self._batch[name]

    def numbers(self, name: str) -> NDArray[Any]:
        """Return a column of numbers [n, …] without a copy and without looking at them."""
        if name not in self._numbers:
            column = self._batch[name]
            tensors = isinstance(column, pa.FixedShapeTensorArray)
            self._numbers[name] = column.to_numpy_ndarray() if tensors else column.to_numpy(False)
        return self._numbers[name]

    def _damaged(self, how: str) -> DamagedFile:
        remedy = "" if how == "is missing" else "Delete it and prepare"
        return DamagedFile(
            f"{self.path} {how}. {remedy or 'Prepare'} again with the same command: only this file "
            "is made again."
        )


def _kinds(batch: pa.RecordBatch) -> dict[str, str]:
    """Name the types of all columns, in words that no version of Arrow changes."""
    return {
        field.name: f"{field.type.value_type} {field.type.shape}"
        if isinstance(field.type, pa.FixedShapeTensorType)
        else str(field.type)
        for field in batch.schema
    }


def _changed(name: str) -> str:
    return f"is damaged (its column {name} is not as it was written)"


class _Parts:
    """The bytes of each row of a column, and the sum of what frames them.

    Sums are CRC-32, which finds any flipped bit. frame: of the buffers' lengths and of all buffers
    but the last, which has the rows' bytes.
    """

    def __init__(self, column: pa.Array) -> None:
        self._column = column
        *self._framing, self._data = (memoryview(buffer or b"") for buffer in column.buffers())
        sizes = [None if buffer is None else buffer.size for buffer in column.buffers()]
        self.frame = zlib.crc32(f"{len(column)} {column.null_count} {sizes}".encode())
        for buffer in self._framing:
            self.frame = zlib.crc32(buffer, self.frame)

    @cached_property
    def _ends(self) -> NDArray[Any]:
        """Place [n + 1] of each row's first byte, and of the last row's end."""
        kind, count = self._column.type, len(self._column)
        if pa.types.is_string(kind) or pa.types.is_large_binary(kind):
            return np.frombuffer(self._framing[-1], f"i{len(self._framing[-1]) // (count + 1)}")
        # Rows of equal length, or bits, which are counted as the first row's.
        each, rest = divmod(len(self._data), count)
        return np.arange(count + 1) * each + rest * (np.arange(count + 1) > 0)

    def sum(self, row: int) -> int:
        """Sum the bytes of a row."""
        return zlib.crc32(self._data[self._ends[row] : self._ends[row + 1]])
