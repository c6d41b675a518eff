"""Files of a prepared store: written whole or not at all, noted in a journal, read by mapping."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from portraitlab.data.listing import Problem
from portraitlab.data.rows import MappedColumn

FORMAT = 1
"""Version of the whole format, to be raised whenever the same names come to mean other contents."""


def write_arrow(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Write an Arrow file: whole and on disk under its name, or, if killed, not there."""
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


def write_shard(path: Path, columns: Mapping[str, pa.Array]) -> None:
    """Write an Arrow file of one record batch, as write_arrow does."""
    batch = pa.RecordBatch.from_pydict(columns)
    write_arrow(path, batch.schema, [batch])


def _sync_folder(folder: Path) -> None:
    """Bring the names in a folder to disk: until then a power cut may take a rename back."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def read_arrow(path: Path) -> pa.Table:
    """An Arrow file, mapped: its pages are read when they are looked at.

    Raises ValueError where the file is missing or damaged.
    """
    try:
        # Closed at once, which keeps the mapping: thousands of shards would use up open files.
        with pa.memory_map(str(path)) as file:
            return pa.ipc.open_file(file).read_all()
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(
            f"{path} cannot be read ({error}). Delete it and prepare again with the same command: "
            "only what it held is made anew."
        ) from error


def read_shard(path: Path) -> pa.RecordBatch:
    """The one record batch of a file of write_shard; raises ValueError as read_arrow does."""
    (batch,) = read_arrow(path).to_batches()
    return batch


def tensors(values: NDArray[Any]) -> pa.Array:
    """Numbers [n, …] as a column: of fixed-shape tensors, or plain where each row has one."""
    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(values))


@dataclass(frozen=True)
class Shards:
    """Many files of the same columns as one table, mapped. starts: first row of each file."""

    batches: Sequence[pa.RecordBatch]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, paths: Iterable[Path]) -> Shards:
        """The shards of these files, without those that have no rows and hence no file."""
        batches = [read_shard(path) for path in paths if path.exists()]
        rows = np.array([len(batch) for batch in batches], np.int64)
        return cls(batches, rows.cumsum() - rows)

    def __len__(self) -> int:
        return sum(map(len, self.batches))

    def has(self, name: str) -> bool:
        """Whether there is a column of this name."""
        return bool(self.batches) and name in self.batches[0].schema.names

    def column(self, name: str) -> MappedColumn:
        """A column of numbers, without a copy."""
        parts = []
        for batch in self.batches:
            values = batch[name]
            tensor = isinstance(values, pa.FixedShapeTensorArray)
            parts.append(values.to_numpy_ndarray() if tensor else values.to_numpy())
        return MappedColumn(parts, self.starts)

    def value(self, name: str, row: int) -> Any:
        """What stands in a column in one row."""
        number = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.batches[number][name][row - int(self.starts[number])].as_py()


@dataclass(frozen=True)
class _Entry:
    """A line of the journal: a piece of work, rows and bytes of its file, and what it left out."""

    name: str
    rows: int
    size: int
    problems: tuple[Problem, ...]


class Journal:
    """What is finished of a preparation, a line each, on disk before anything builds on it.

    A line that a kill cut off is dropped, and its work done again. Problems stay in the file.
    Raises ValueError where another line is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()
        whole = path.read_bytes()
        os.truncate(path, whole.rfind(b"\n") + 1)
        self._lines = 0
        self._done: dict[str, tuple[int, int, int]] = {}  # line, rows and bytes of each piece
        for entry in self._entries():
            self._note(entry)

    def knows(self, name: str) -> bool:
        """Whether a piece was ever finished, whatever became of its file."""
        return name in self._done

    def rows(self, name: str, path: Path) -> int | None:
        """Rows of a finished piece whose file is as it was written; None of any other.

        A piece without rows has no file.
        """
        if name not in self._done:
            return None
        _, rows, size = self._done[name]
        if rows and (not path.is_file() or path.stat().st_size != size):
            return None
        return rows

    def finish(self, name: str, rows: int, path: Path, problems: Sequence[Problem]) -> None:
        """Note a piece whose file, if it has rows, is on disk."""
        entry = _Entry(name, rows, path.stat().st_size if rows else 0, tuple(problems))
        with self.path.open("ab") as file:
            file.write(json.dumps(asdict(entry)).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self._note(entry)

    def problems(self) -> Iterator[Problem]:
        """What all pieces left out, in the order of the work; of a piece done twice, once."""
        for number, entry in enumerate(self._entries(), start=1):
            if self._done[entry.name][0] == number:
                yield from entry.problems

    def _note(self, entry: _Entry) -> None:
        self._lines += 1
        self._done[entry.name] = (self._lines, entry.rows, entry.size)

    def _entries(self) -> Iterator[_Entry]:
        with self.path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                try:
                    read = json.loads(line)
                    problems = tuple(Problem(**problem) for problem in read.pop("problems"))
                    yield _Entry(**read, problems=problems)
                except (ValueError, TypeError, KeyError) as error:
                    raise ValueError(
                        f"Line {number} of {self.path} is damaged ({error}). Delete the line and "
                        "prepare again with the same command: only its work is done anew."
                    ) from error
