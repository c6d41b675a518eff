"""Files of a prepared store: written atomically, each by one process, and read by mapping."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from portraitlab.data.prepare.listing import Problem
from portraitlab.data.rows import MappedColumn

FORMAT = 4
"""Version of the format, to be raised whenever the same names come to mean other contents."""

_PROBLEMS = b"problems"


def write_arrow(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Write an Arrow file atomically: complete and synced under its name, or not there."""
    unfinished = path.with_name(f"unfinished-{path.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with unfinished.open("wb") as sink:
        with pa.ipc.new_file(sink, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        sink.flush()
        os.fsync(sink.fileno())
    unfinished.replace(path)
    _sync_folder(path.parent)


def write_shard(
    path: Path, columns: Mapping[str, pa.Array], problems: Sequence[Problem] = ()
) -> None:
    """Write an Arrow file of one record batch, as write_arrow does.

    problems: the photos that were left out of it. They are stored in the file's metadata, so that a
    shard is self-contained and no two processes write to one file.
    """
    batch = pa.RecordBatch.from_pydict(columns)
    if problems:
        text = json.dumps([asdict(problem) for problem in problems])
        batch = batch.replace_schema_metadata({_PROBLEMS: text})
    write_arrow(path, batch.schema, [batch])


def _sync_folder(folder: Path) -> None:
    """Sync a folder's names to disk: until then a power cut may undo a rename."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def read_arrow(path: Path) -> pa.Table:
    """Map an Arrow file; its pages are read on access.

    Raises ValueError if the file is missing or damaged.
    """
    return _read(path, lambda file: file.read_all())


def read_shard(path: Path) -> pa.RecordBatch:
    """Map the one record batch of a file of write_shard; raises as read_arrow does."""
    return _read(path, lambda file: file.get_batch(0))


def problems_of(shard: pa.RecordBatch) -> list[Problem]:
    """Read the problems stored with a shard."""
    text = (shard.schema.metadata or {}).get(_PROBLEMS, b"[]")
    return [Problem(**problem) for problem in json.loads(text)]


def is_whole(path: Path) -> bool:
    """Return True if an Arrow file exists and is not truncated: its footer can be read."""
    try:
        read_arrow(path)
    except ValueError:
        return False
    return True


def _read(path: Path, what: Callable[[Any], Any]) -> Any:
    try:
        # Close at once, which keeps the mapping: thousands of shards would exhaust open files.
        with pa.memory_map(str(path)) as file:
            return what(pa.ipc.open_file(file))
    except FileNotFoundError as error:
        raise ValueError(
            f"{path} is missing. Prepare again with the same command: only this file is made again."
        ) from error
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(
            f"{path} cannot be read ({error}). Delete it and prepare again with the same command: "
            "only this file is made again."
        ) from error


def tensors(values: NDArray[Any]) -> pa.Array:
    """Convert numbers [n, …] to a column: fixed-shape tensors, or plain if each row has one."""
    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(values))


@dataclass(frozen=True)
class Shards:
    """Many files of the same columns as one table, mapped.

    starts: first row of each file. order [P]: the stored row of each row; None if they are the
    same.
    """

    batches: Sequence[pa.RecordBatch]
    starts: NDArray[np.int64]
    order: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, paths: Iterable[Path], order: NDArray[np.int64] | None = None) -> Shards:
        """Map the shards in these files; files without rows are dropped."""
        batches = [batch for batch in map(read_shard, paths) if len(batch)]
        rows = np.array([len(batch) for batch in batches], np.int64)
        return cls(batches, rows.cumsum() - rows, order)

    def __len__(self) -> int:
        return sum(map(len, self.batches))

    def has(self, name: str) -> bool:
        """Return True if there is a column of this name."""
        return bool(self.batches) and name in self.batches[0].schema.names

    def column(self, name: str) -> MappedColumn:
        """Return a column of numbers, without a copy."""
        parts = []
        for batch in self.batches:
            values = batch[name]
            tensor = isinstance(values, pa.FixedShapeTensorArray)
            parts.append(values.to_numpy_ndarray() if tensor else values.to_numpy())
        return MappedColumn(parts, self.starts, self.order)

    def value(self, name: str, row: int) -> Any:
        """Read the value of a column in one row."""
        row = row if self.order is None else int(self.order[row])
        number = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.batches[number][name][row - int(self.starts[number])].as_py()
