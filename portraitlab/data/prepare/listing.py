"""List a folder of identity folders: photos, their captions, and files that are neither.

Only captions are opened, and one identity's files are listed at a time.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NO_PHOTOS = "holds no photos in identity folders; put them as <identity>/<photo> in it"


@dataclass(frozen=True)
class Problem:
    """One reason why a photo or an identity cannot be used, or a file that will not be read.

    kind: "photo", "identity", "file" or, for the whole folder, "folder". name: `identity/file`, the
    name of a file beside the identity folders, an identity, or the whole folder. text: the problem,
    as a continuation of the name.
    """

    kind: str
    name: str
    text: str

    def __str__(self) -> str:
        # Escape line breaks and bytes that are not text, to keep a problem on one line.
        name = "".join(
            character if character.isprintable() else ascii(character)[1:-1]
            for character in self.name
        )
        return f"{self.kind} {name}: {self.text}"


@dataclass(frozen=True)
class Listing:
    """The photos of one identity sorted by name, and the problems of its other files."""

    photos: list[Path]
    problems: list[Problem]


class BadCaption(ValueError):
    """A caption that is not UTF-8."""


def identity_folders(root: Path) -> list[str]:
    """List the identity folders sorted by name, without those that begin with a dot."""
    return sorted(
        path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


def stray_files(root: Path) -> Iterator[Problem]:
    """Yield a problem for each file beside the identity folders."""
    for path in sorted(root.iterdir()):
        if not path.is_dir() and not path.name.startswith("."):
            yield Problem("file", path.name, "is outside the identity folders")


def list_identity(root: Path, identity: str) -> Listing:
    """List an identity's photos, and a problem for each other file that is not hidden."""
    photos: list[Path] = []
    captions: list[Path] = []
    problems: list[Problem] = []
    # Sort the files into photos, captions and problems.
    for path in sorted((root / identity).iterdir()):
        name = f"{identity}/{path.name}"
        if path.name.startswith("."):
            continue
        if path.is_dir():
            problems.append(Problem("file", name, "is a folder inside an identity's folder"))
        elif not path.is_file() and path.exists():  # reading a pipe would wait for a writer
            problems.append(Problem("file", name, "is neither a file nor a folder"))
        elif path.suffix.lower() == ".txt":
            captions.append(path)
        else:
            photos.append(path)
    # Report captions without a photo.
    stems = {photo.stem for photo in photos}
    problems += [
        Problem("file", f"{identity}/{path.name}", "is a caption without a photo")
        for path in captions
        if path.stem not in stems
    ]
    return Listing(photos, problems)


def caption_of(photo: Path) -> str | None:
    """Read the caption in the text file beside a photo; None if there is no such file.

    Raises BadCaption if it is not UTF-8.
    """
    path = photo.with_suffix(".txt")
    if not path.is_file():
        return None
    try:
        return path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise BadCaption(f"The caption {path} is not UTF-8 ({error}). Save it as UTF-8.") from error


def not_text(name: str) -> str | None:
    """Return why a name cannot be stored as text, or None if it can."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return "has a name that is not UTF-8; rename it"
    return None


def name_problem(name: str) -> str | None:
    """Return why a file or folder name may not survive on other systems, or None if it does.

    This system can read the name, but a store, an archive or another disk may not.
    """
    if (text := not_text(name)) is not None:
        return text
    if any(unicodedata.category(character) == "Cc" for character in name):
        return "has a name with a control character, such as a line break; rename it"
    if name != name.strip():
        return "has a name that begins or ends with a space; rename it"
    return None


def alike(names: list[str]) -> dict[str, str]:
    """Map names to an earlier name that other disks do not distinguish from them.

    Disks of Windows and macOS do not distinguish upper from lower case, or composed from decomposed
    letters.
    """
    first: dict[str, str] = {}
    same: dict[str, str] = {}
    for name in names:
        earlier = first.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if earlier != name:
            same[name] = earlier
    return same
