"""What a process that reads photos does with one of them; nothing heavy is imported for it."""

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
class Seen:
    """Bytes of a file, their sha256, and the caption beside it; None where there is none."""

    size: int
    digest: bytes
    caption: str | None


def look(path: Path) -> Seen | str:
    """What a plan notes of a file, or why it cannot be taken."""
    if (text := not_text(path.name)) is not None:
        return text
    try:
        digest = bytes.fromhex(file_digest(path))
        return Seen(path.stat().st_size, digest, caption_of(path))
    except BadCaption:
        return f"its caption {path.with_suffix('.txt').name} is not UTF-8"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


@dataclass(frozen=True)
class Planned:
    """A file to read that had this sha256 when it was planned."""

    path: Path
    digest: bytes


def read_planned(job: Planned) -> Photo | str:
    """A photo, or the reason why it is none.

    Raises ValueError where the file is no longer what was planned, and where the system cannot read
    it: a shard keeps what is said here.
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
    """The error of a planned file or folder that is no longer what it was."""
    return ValueError(
        f"{path} was changed or removed since it was listed. Put it back and go on with the same "
        "command, or prepare into another folder."
    )
