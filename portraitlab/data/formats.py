"""The formats in which photos are read, and the names and remedies of those that are not."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

_READ = (
    "AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "PSD", "QOI", "TGA", "TIFF",
    "WEBP",
)  # fmt: skip
"""Formats that Pillow decodes itself; it would start Ghostscript for others, such as EPS."""

_START = 1024  # bytes of a file that name its format

RAW = "is a raw photo of a camera: develop it, and export a JPEG"
_NEW_SUBFILE_TYPE, _DNG_VERSION = 254, 50706
_RAW_SUFFIXES = (".arw", ".cr2", ".dng", ".nef", ".nrw", ".pef", ".srw")
_FILM = "is a film: export the frame as JPEG"
_HEIF = rb"....ftyp(hei|hev|mif1|msf1)"

_MARKUP = rb"(\xef\xbb\xbf)?\s*(?=<).*"

_OTHERS = (
    (rb"\Z", "is an empty file"),
    (rb"version https://git-lfs", "is a Git LFS pointer, not the photo; fetch it: `git lfs pull`"),
    (rb"\xff\x0a|....JXL ", "is JPEG XL: convert it to JPEG or PNG"),
    (rb"....ftypavi", "is AVIF, damaged or with a Pillow built without it: convert it to JPEG"),
    (rb"....ftypcrx|II\x1a\0\0\0HEAPCCDR|FUJIFILMCCD|IIR[OS]|MMOR|IIU\0|FOVb|\0MRM", RAW),
    (rb"....(ftyp|moov|mdat|wide)|\x1aE\xdf\xa3|RIFF....AVI |\0\0\x01[\xb3\xba]", _FILM),
    (rb"\xd0\xcf\x11\xe0", "is a Thumbs.db or an Office file, not a photo: delete it"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "is PostScript (EPS), which is never opened: convert it to PNG"),
    (rb"%PDF", "is a PDF: export its pictures as JPEG or PNG"),
    (rb"PK\x03\x04|\x1f\x8b|Rar!|7z\xbc\xaf", "is an archive: unpack it"),
    (_MARKUP + rb"<(!doctype html|html|head|body)\b", "is a web page (HTML): download it again"),
    (_MARKUP + rb"<svg\b", "is SVG, a drawing: convert it to PNG"),
    (_MARKUP + rb"<\?xml\b", "is XML, not a photo: delete it"),
    (rb"(\xef\xbb\xbf)?\s*[\[{]\s*[\"\[{\]}]", "is JSON, not a photo: delete it"),
)  # fmt: skip
"""First bytes of files that are no photos or that Pillow cannot read, and what to do with them."""


def readable() -> tuple[str, ...]:
    """Return Pillow's names of the formats that are read; HEIF where pillow-heif is installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return _READ
    register_heif_opener()
    return (*_READ, "HEIF")


def is_raw(path: Path, tiff: Image.Image) -> bool:
    """Return True if an open TIFF is a camera's raw photo, whose first picture is a thumbnail."""
    tags = getattr(tiff, "tag_v2", {})
    reduced = int(tags.get(_NEW_SUBFILE_TYPE, 0)) & 1
    return bool(reduced) or _DNG_VERSION in tags or path.suffix.lower() in _RAW_SUFFIXES


def unread(path: Path) -> str:
    """Name the format of a file that cannot be opened as a photo, and the remedy.

    Raises OSError if the system cannot read the file.
    """
    with path.open("rb") as file:
        start = file.read(_START)
    if re.match(_HEIF, start, re.DOTALL):
        if "HEIF" in readable():
            return "is a damaged HEIC or HEIF"
        return "is HEIC or HEIF: pip install 'portraitlab[heic]', or convert it to JPEG"
    for pattern, text in _OTHERS:
        if re.match(pattern, start, re.DOTALL | re.IGNORECASE):
            return text
    return "is not a picture, or a broken one"
