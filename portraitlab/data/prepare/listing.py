"""What lies in a folder of identity folders: photos, their captions, and what belongs to neither.

Nothing is opened but captions, and one identity's files are listed at a time.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NO_PHOTOS = "holds no photos in identity folders; put them as <identity>/<photo> in it"


@dataclass(frozen=True)
class Problem:
    """One thing that keeps a photo, or an identity, from being used, or that nobody will read.

    kind: "photo", "identity", "file" or, for all of it, "folder". name: `identity/file`, or of a
    file beside the identity folders, or an identity's, or the whole folder's. text: what is the
    matter; it reads on after the name.
    """

    kind: str
    name: str
    text: str

    def __str__(self) -> str:
        # A name may hold line breaks, or bytes that are no text; the line must stay one.
        name = "".join(
            character if character.isprintable() else ascii(character)[1:-1]
            for character in self.name
        )
        return f"{self.kind} {name}: {self.text}"


@dataclass(frozen=True)
class Listing:
    """The photos of one identity in the order of their names, and what else lies beside them."""

    photos: list[Path]
    problems: list[Problem]


class BadCaption(ValueError):
    """A caption that is no UTF-8."""


def identity_folders(root: Path) -> list[str]:
    """Names of the identity folders in order; those that begin with a dot are hidden."""
    return sorted(
        path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


def stray_files(root: Path) -> Iterator[Problem]:
    """What lies beside the identity folders."""
    for path in sorted(root.iterdir()):
        if not path.is_dir() and not path.name.startswith("."):
            yield Problem("file", path.name, "lies outside the identity folders")


def list_identity(root: Path, identity: str) -> Listing:
    """All files of an identity's folder but hidden ones, and what of them is no photo."""
    photos: list[Path] = []
    captions: list[Path] = []
    problems: list[Problem] = []
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
    stems = {photo.stem for photo in photos}
    problems += [
        Problem("file", f"{identity}/{path.name}", "is a caption without a photo")
        for path in captions
        if path.stem not in stems
    ]
    return Listing(photos, problems)


def caption_of(photo: Path) -> str | None:
    """What the text file beside a photo says; None where there is none.

    Raises BadCaption where it is not UTF-8.
    """
    path = photo.with_suffix(".txt")
    if not path.is_file():
        return None
    try:
        return path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise BadCaption(f"The caption {path} is not UTF-8 ({error}). Save it as UTF-8.") from error


def not_text(name: str) -> str | None:
    """Why a name cannot be stored as text, if it cannot."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return "has a name that is not UTF-8; rename it"
    return None


def name_problem(name: str) -> str | None:
    """Why a file or folder with this name gets lost on its way through other systems, if it does.

    The name itself is read here, but a store, an archive or another disk may not take it.
    """
    if (text := not_text(name)) is not None:
        return text
    if any(unicodedata.category(character) == "Cc" for character in name):
        return "has a name with a control character, such as a line break; rename it"
    if name != name.strip():
        return "has a name that begins or ends with a space; rename it"
    return None


def alike(names: list[str]) -> dict[str, str]:
    """Names that another disk takes for an earlier one of these, with that one.

    Disks of Windows and macOS do not tell upper from lower case, or composed from decomposed
    letters.
    """
    first: dict[str, str] = {}
    same: dict[str, str] = {}
    for name in names:
        earlier = first.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if earlier != name:
            same[name] = earlier
    return same
