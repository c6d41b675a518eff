"""Add in the order in which several processes that share a machine add."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch add in one thread inside `with`, as each of several processes does.

    Of the last bit of a gradient next to nothing Adam's first steps make a whole step, so what is
    compared must be rounded alike.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
