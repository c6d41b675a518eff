"""Jobs of the processes that read photos; this module imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from portraitlab.data.photo import (
    Photo,
    UnusablePhoto,
    read_photo,
    require_verdict,
    unreadable,
)
from portraitlab.data.prepare.listing import BadCaption, caption_of, not_text
from portraitlab.support.hashes import file_digest


@dataclass(frozen=True)
class FileInfo:
    """Size of a file in bytes, sha256 of its content, and its caption or None."""

    size: int
    digest: bytes
    caption: str | None


def inspect_file(path: Path) -> FileInfo | str:
    """Return what a plan records of a file, or the reason why it cannot be used."""
    if (text := not_text(path.name)) is not None:
        return text
    try:
        digest = bytes.fromhex(file_digest(path))
        return FileInfo(path.stat().st_size, digest, caption_of(path))
    except BadCaption:
        return f"its caption {path.with_suffix('.txt').name} is not UTF-8"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


@dataclass(frozen=True)
class PlannedFile:
    """A file to read, with the sha256 that it had when it was listed."""

    path: Path
    digest: bytes


def read_planned(job: PlannedFile) -> Photo | str:
    """Read a photo, or return the reason why it cannot be used.

    Raises ValueError if the file changed since it was listed, and if the system cannot read it: a
    shard stores the reasons, so a passing failure must not become one.
    """
    try:
        if not job.path.is_file() or bytes.fromhex(file_digest(job.path)) != job.digest:
            raise changed(job.path)
        return read_photo(job.path)
    except FileNotFoundError as error:
        raise changed(job.path) from error
    except OSError as error:
        raise unreadable(job.path, error) from error
    except UnusablePhoto as error:
        require_verdict(job.path, error)
        return str(error)


def changed(path: Path) -> ValueError:
    """Make the error for a listed file or folder that has changed since."""
    return ValueError(
        f"{path} was changed or removed since it was listed. Restore it and run the same command "
        "again, or prepare into another folder."
    )
