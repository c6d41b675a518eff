"""Sums in the order in which they are added up where several processes share a machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """In it torch adds in one thread, as each of several processes does.

    Of the last bit of a gradient next to nothing Adam's first steps make a whole step, so what is
    compared must be rounded alike.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
