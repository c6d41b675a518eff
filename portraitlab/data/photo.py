"""Read one photo file, upright and in RGB; a damaged file is never read in part."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

_DAMAGED = (
    OSError, SyntaxError, ValueError, EOFError, RuntimeError, TypeError, AttributeError,
    LookupError, ArithmeticError, struct.error, Image.DecompressionBombError,
)  # fmt: skip
"""Errors that Pillow's decoders raise on damaged files; each format has its own."""

_ORIENTATION = 0x0112

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transpose that undoes each EXIF orientation.

ImageOps.exif_transpose also rewrites the other tags, which fails on sound photos whose tags have
other types than the standard's.
"""


class UnusablePhoto(ValueError):
    """A file that is not a complete picture or a portrait of one person; the message says why."""


@dataclass(frozen=True)
class Photo:
    """A decoded photo: upright RGB pixels and a mask of what is not transparent.

    image: uint8 [H, W, 3]. person_mask: bool [H, W], False where the photo is transparent.
    """

    image: NDArray[np.uint8]
    person_mask: NDArray[np.bool_]


def read_photo(path: Path) -> Photo:
    """Read a photo of any format and mode that Pillow knows.

    The EXIF rotation is applied. 16-bit greys keep their upper eight bits; CMYK, palette and grey
    pictures become RGB; transparent pixels become mid-grey outside the person's mask, so that a
    photo may bring its own matte. Raises UnusablePhoto if the file is not a picture or is
    truncated: a partly decoded picture is never returned.
    """
    try:
        with Image.open(path) as file:
            file.load()
            turn = _UPRIGHT.get(file.getexif().get(_ORIENTATION, 1))
            picture = file.copy() if turn is None else file.transpose(turn)
    except UnidentifiedImageError as error:
        raise UnusablePhoto(_not_a_picture(path)) from error
    except _DAMAGED as error:
        raise UnusablePhoto(f"cannot be read: {error}") from error
    return as_photo(picture)


def require_verdict(path: Path, error: UnusablePhoto) -> None:
    """Raise ValueError if the system failed to read a file, as opposed to the file being damaged.

    Verdicts on photos are stored, and a disk may fail only for a moment. error: from read_photo.
    """
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.errno is not None:  # Pillow's own errors have no errno
        raise unreadable(path, cause) from error


def unreadable(path: Path, error: OSError) -> ValueError:
    """Make the error for a file that the system cannot read now."""
    return ValueError(
        f"{path} cannot be read now: {error.strerror}. Once it can be read, run the same command "
        "again to resume."
    )


def as_photo(picture: Image.Image) -> Photo:
    """Convert an open picture of any mode as read_photo does; raises as it does."""
    if picture.mode.startswith("I"):
        picture = Image.fromarray((np.asarray(picture) >> 8).clip(0, 255).astype(np.uint8))
    elif picture.mode == "F":
        raise UnusablePhoto("cannot be read: its pixels are floating-point numbers")
    if not picture.has_transparency_data:
        image = np.asarray(picture.convert("RGB"))
        return Photo(image, np.ones(image.shape[:2], bool))
    layered = picture.convert("RGBA")
    ground = Image.new("RGBA", layered.size, (128, 128, 128, 255))
    image = np.asarray(Image.alpha_composite(ground, layered).convert("RGB"))
    return Photo(image, np.asarray(layered)[..., 3] >= 128)


def _not_a_picture(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        return "is an empty file"
    if start.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the photo: fetch it with `git lfs pull`"
    return "is not a picture, or a broken one"
