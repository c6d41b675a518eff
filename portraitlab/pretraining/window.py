"""Training data that is made while it is used, a chunk at a time, and dropped after some steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import torch

from portraitlab.types import TensorRecord

Chunk = TypeVar("Chunk", bound=TensorRecord)


class Window(Generic[Chunk]):
    """The last `length` chunks of an endless row, of which each `steps` steps see a new one.

    Which chunks a step sees follows from its number, so a resumed training sees the same; it first
    makes a window again.

    Args:
        make: makes chunk 0, 1, 2, …; the same number gives the same chunk.
        device: of the training, under whose autocast nothing is made.
    """

    def __init__(
        self, make: Callable[[int], Chunk], length: int, steps: int, device: str = "cpu"
    ) -> None:
        self.make, self.length, self.steps = make, length, steps
        self.device_type = torch.device(device).type
        self.chunks: dict[int, Chunk] = {}
        self.joined: tuple[int, Chunk] | None = None

    def at(self, step: int) -> Chunk:
        """All chunks that are in use at a step, joined."""
        newest = step // self.steps
        if self.joined is None or self.joined[0] != newest:
            with torch.autocast(self.device_type, enabled=False):
                self.joined = newest, self._join(newest)
        return self.joined[1]

    def _join(self, newest: int) -> Chunk:
        wanted = range(max(0, newest - self.length + 1), newest + 1)
        self.chunks = {n: self.chunks[n] if n in self.chunks else self.make(n) for n in wanted}
        chunks = list(self.chunks.values())
        return type(chunks[0]).cat(chunks)
