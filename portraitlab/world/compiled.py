"""Compile functions by numba, with or without a folder for the machine code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(**options: Any) -> Callable[[_Function], _Function]:
    """Return a decorator that compiles a function; options: numba's.

    The machine code is stored beside the module or in the user's cache. Where neither can be
    written, as in a read-only installation without a home, each process compiles again.
    """

    def compile_(function: _Function) -> _Function:
        try:
            found: _Function = njit(cache=True, **options)(function)
        except RuntimeError:  # numba finds no folder
            found = njit(**options)(function)
        return found

    return compile_
