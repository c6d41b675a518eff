"""Reads a W&B offline file, for which there is no supported reader.

The file is a 7-byte header and then a LevelDB log: blocks of 32 KiB, in each records of checksum
(4 bytes), length (2, little endian), kind (1: whole, 2: first, 3: middle, 4: last piece) and data.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError
from wandb.proto import wandb_internal_pb2

_BLOCK, _HEADER = 32768, 7


def records(path: Path) -> Iterator[Any]:
    """Read a run's records, once its file is complete: `finish` returns a moment earlier."""
    deadline = time.monotonic() + 20
    while True:
        try:
            found = list(_records(path))
        except DecodeError:
            found = []
        if any(each.WhichOneof("record_type") == "exit" for each in found):
            return iter(found)
        assert time.monotonic() < deadline, f"{path} does not end"
        time.sleep(0.05)


def _records(path: Path) -> Iterator[Any]:
    content, place, pieces = path.read_bytes(), _HEADER, b""
    assert content.startswith(b":W&B") or not content
    while place + _HEADER <= len(content):
        if _BLOCK - place % _BLOCK < _HEADER:
            place += _BLOCK - place % _BLOCK
            continue
        length, kind = struct.unpack_from("<HB", content, place + 4)
        pieces += content[place + _HEADER : place + _HEADER + length]
        place += _HEADER + length
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(pieces)
            pieces = b""
            yield record


def values(items: Any) -> dict[str, Any]:
    """Return the logged values by key; keys that are paths are joined by dots."""
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}
