"""Training data that is made during the training in chunks, and dropped after some steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import torch

from portraitlab.types import TensorRecord

Chunk = TypeVar("Chunk", bound=TensorRecord)


class Window(Generic[Chunk]):
    """A sliding window over the last `length` chunks of data, with a new one every `steps` steps.

    The number of a step determines its chunks, so a resumed training uses the same; it first makes
    the whole window.

    Args:
        make: makes chunk 0, 1, 2, …; the same number gives the same chunk.
        device: device of the training, whose autocast is disabled while chunks are made.
    """

    def __init__(
        self, make: Callable[[int], Chunk], length: int, steps: int, device: str = "cpu"
    ) -> None:
        self.make, self.length, self.steps = make, length, steps
        self.device_type = torch.device(device).type
        self.chunks: dict[int, Chunk] = {}
        self.joined: tuple[int, Chunk] | None = None

    def at(self, step: int) -> Chunk:
        """Return all chunks that are in use at a step, concatenated."""
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
