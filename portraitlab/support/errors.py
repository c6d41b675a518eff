"""Format errors that the user can fix, without a traceback."""

from __future__ import annotations

import errno
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.errors import CompactHydraException, InstantiationException
from omegaconf.errors import OmegaConfBaseException

from portraitlab.support.printing import printable


class UserError(CompactHydraException):
    """An error that the user can fix: Hydra prints its message alone and exits with code 1."""


_REMEDIES = {
    errno.ENOSPC: "free space there; the same command resumes from what is saved",
    errno.EDQUOT: "free space there; the same command resumes from what is saved",
    errno.EFBIG: "raise the limit of file sizes; the same command resumes from what is saved",
    errno.EROFS: "choose writable folders with runs=FOLDER and cache=FOLDER",
    errno.EACCES: "choose writable folders with runs=FOLDER and cache=FOLDER",
}


@contextmanager
def user_errors() -> Iterator[None]:
    """Raise errors that the user can fix as a UserError."""
    try:
        yield
    except Exception as error:
        text = message(error)
        if text is None:
            raise
        raise UserError(text) from error


@contextmanager
def ends_the_program() -> Iterator[None]:
    """Exit the process with code 1 on any error, since Hydra swallows errors of a callback.

    Errors that the user can fix print their message, others a traceback.
    """
    try:
        yield
    except Exception as error:
        text = message(error)
        if text is None:
            traceback.print_exc()
        raise SystemExit(1 if text is None else text) from error


def message(error: BaseException) -> str | None:
    """Return the message of an error that the user can fix, unwrapping `instantiate`; else None.

    Control characters in it are escapes.
    """
    text = _message(error)
    return None if text is None else printable(text)


def _message(error: BaseException) -> str | None:
    if isinstance(error, InstantiationException) and error.__cause__ is not None:
        text = _message(error.__cause__)
        return str(error) if text is None else text
    if isinstance(error, ValueError | InstantiationException | OmegaConfBaseException):
        return str(error)
    if isinstance(error, OSError):
        remedy = _REMEDIES.get(error.errno or 0)
        return str(error) if remedy is None else f"{error}: {remedy}"
    if type(error).__name__ == "SafetensorError":  # has the system's error in its text only
        number = re.search(r"os error (\d+)", str(error))
        remedy = _REMEDIES.get(int(number[1])) if number else None
        return str(error) if remedy is None else f"{error}: {remedy}"
    if type(error).__name__ == "OutOfMemoryError":  # torch's; by name, to avoid importing torch
        return f"{error} Lower batch_size or scale.score_batch_size."
    return None
