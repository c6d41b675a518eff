"""What a person is told of an error that is theirs, or their machine's, to mend."""

from __future__ import annotations

import errno
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.errors import CompactHydraException, InstantiationException
from omegaconf.errors import OmegaConfBaseException


class UserError(CompactHydraException):
    """What the user can mend: Hydra prints its message alone and exits with code 1."""


_REMEDIES = {
    errno.ENOSPC: "free space there; the same command goes on from what is saved",
    errno.EDQUOT: "free space there; the same command goes on from what is saved",
    errno.EFBIG: "raise the limit of file sizes; the same command goes on from what is saved",
    errno.EROFS: "choose folders that can be written, with runs=FOLDER and cache=FOLDER",
    errno.EACCES: "choose folders that can be written, with runs=FOLDER and cache=FOLDER",
}


@contextmanager
def user_errors() -> Iterator[None]:
    """What the user can mend ends the command with its message."""
    try:
        yield
    except Exception as error:
        said = message(error)
        if said is None:
            raise
        raise UserError(said) from error


@contextmanager
def ends_the_program() -> Iterator[None]:
    """Any error ends the process, with exit code 1: Hydra swallows those of a callback, but not
    SystemExit. What the user can mend is said in its message, and a bug shows its traceback.
    """
    try:
        yield
    except Exception as error:
        said = message(error)
        if said is None:
            traceback.print_exc()
        raise SystemExit(1 if said is None else said) from error


def message(error: BaseException) -> str | None:
    """One message for what the user can mend, also where `instantiate` wraps it; None for a bug."""
    if isinstance(error, InstantiationException) and error.__cause__ is not None:
        said = message(error.__cause__)
        return str(error) if said is None else said
    if isinstance(error, ValueError | InstantiationException | OmegaConfBaseException):
        return str(error)
    if isinstance(error, OSError):
        remedy = _REMEDIES.get(error.errno or 0)
        return str(error) if remedy is None else f"{error}: {remedy}"
    if type(error).__name__ == "SafetensorError":  # with the system's error only in its text
        number = re.search(r"os error (\d+)", str(error))
        remedy = _REMEDIES.get(int(number[1])) if number else None
        return str(error) if remedy is None else f"{error}: {remedy}"
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported for this
        return f"{error} Lower batch_size or scale.score_batch_size."
    return None
