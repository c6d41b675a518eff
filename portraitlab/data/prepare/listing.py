"""List a folder of identity folders: photos, their captions, and files that are neither.

Only captions are opened, and one identity's files are listed at a time.
"""

from __future__ import annotations

import codecs
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_CAPTIONS = (".txt", ".TXT", ".Txt")
_CAPTION_BYTES = 65_536  # most of a caption
_SIDECARS = (".aae", ".caption", ".csv", ".json", ".jsonl", ".npz", ".xmp", ".yaml")
"""Suffixes of files that other programs write beside photos; they are counted and not read."""

_NO_PHOTOS = "holds no photos in identity folders; put them as <identity>/<photo> in it"


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
    """The photos of one identity sorted by name, and the problems of its other files.

    sidecars: files beside the photos that are not read. nested: True if there are folders in place
    of photos, each of which may be a person's.
    """

    photos: list[Path]
    sidecars: list[Path]
    problems: list[Problem]
    nested: bool


class BadCaption(ValueError):
    """A caption that cannot be read; the message says why, as a continuation of a photo's name."""


def check_root(root: Path, setting: str = "") -> None:
    """Raise ValueError if the folder of identity folders is missing; setting: that names it."""
    if not root.is_dir():
        raise ValueError(
            f"{setting}{root} is not a folder; give a folder of identity folders of photos."
        )


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


def no_photos(root: Path) -> str:
    """Return the problem of a folder without photos, with the folder below it that may have them.

    A set in parts (`root/train/<identity>/<photo>`) has its people one level further down.
    """
    below = _people_below(root)
    return _NO_PHOTOS if below is None else f"holds no photos in identity folders; give {below}"


def list_identity(root: Path, identity: str) -> Listing:
    """List an identity's photos, and a problem for each other file that is not hidden."""
    photos: list[Path] = []
    captions: list[Path] = []
    sidecars: list[Path] = []
    folders: list[str] = []
    problems: list[Problem] = []
    # Sort the files.
    for path in sorted((root / identity).iterdir()):
        name = f"{identity}/{path.name}"
        if path.name.startswith("."):
            continue
        if path.is_dir():
            folders.append(name)
        elif not path.is_file() and path.exists():  # reading a pipe would wait for a writer
            problems.append(Problem("file", name, "is neither a file nor a folder"))
        elif path.suffix in _CAPTIONS:
            captions.append(path)
        elif path.suffix.lower() in _SIDECARS:
            sidecars.append(path)
        else:
            photos.append(path)
    # Report folders; people in place of photos are one problem.
    nested = bool(folders) and not photos
    if nested:
        text = f"holds folders, not photos; if each is a person, give {root / identity}"
        problems.append(Problem("identity", identity, text))
    else:
        text = "is a folder inside an identity's folder"
        problems += [Problem("file", name, text) for name in folders]
    # Report captions that no photo reads.
    stems = {photo.stem for photo in photos}
    for path in captions:
        name = f"{identity}/{path.name}"
        if path.stem not in stems:
            problems.append(Problem("file", name, "is a caption without a photo"))
        elif (read := caption_file(path)) != path:
            assert read is not None
            problems.append(Problem("file", name, f"is not read: {read.name} is the caption"))
    return Listing(photos, sidecars, problems, nested)


def _people_below(root: Path) -> Path | None:
    for identity in identity_folders(root):
        if list_identity(root, identity).nested:
            return _people_below(root / identity) or root / identity
    return None


def caption_file(photo: Path) -> Path | None:
    """Return the text file beside a photo that has its caption, or None."""
    paths = (photo.with_suffix(suffix) for suffix in _CAPTIONS)
    return next((path for path in paths if path.is_file()), None)


def caption_of(photo: Path) -> str | None:
    """Read the caption in the text file beside a photo; None if there is no text.

    The file is UTF-8, or UTF-16 as Windows writes it, with a byte order mark or without. Raises
    BadCaption if it is neither, too long, or a link to a file that is no caption.
    """
    path = caption_file(photo)
    if path is None:
        return None
    if path.resolve().suffix not in _CAPTIONS:
        raise BadCaption(f"its caption {path.name} is a link to a file that is no caption: copy it")
    with path.open("rb") as file:
        data = file.read(_CAPTION_BYTES + 1)
    if len(data) > _CAPTION_BYTES:
        raise BadCaption(
            f"its caption {path.name} has more than {_CAPTION_BYTES} bytes: shorten it"
        )
    encoding = "utf-8-sig"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif 0 in data:  # half of the bytes of Latin letters
        encoding = "utf-16-le" if data[1::2].count(0) > data[::2].count(0) else "utf-16-be"
    try:
        text = data.decode(encoding).strip()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise BadCaption(f"its caption {path.name} is not UTF-8 or UTF-16: save it as UTF-8")
    return text or None


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
