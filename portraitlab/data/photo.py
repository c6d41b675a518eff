"""Read one photo file, upright and in RGB; a damaged file is never read in part."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, PngImagePlugin, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

from portraitlab.data import formats

_MOST_PIXELS = 100_000_000
"""Larger photos are read at half the size where the format can (JPEG), else refused."""
_MOST_ELONGATED = 50  # ratio of the sides, beyond which detectors scale one side to nothing

# A profile or a text of 2 MB is no reason to refuse a PNG; all texts of one have this limit.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY

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
class DecodedPhoto:
    """A decoded photo: upright RGB pixels and a mask of what is not transparent.

    image: uint8 [H, W, 3]. person_mask: bool [H, W], False where the photo is transparent.
    """

    image: NDArray[np.uint8]
    person_mask: NDArray[np.bool_]


def read_photo(path: Path) -> DecodedPhoto:
    """Read a photo of any format in `formats` and of any mode.

    The EXIF rotation is applied; other metadata that is damaged or large is no obstacle. Colours
    and depths: see as_photo. Raises UnusablePhoto for any failure: if the file is not a picture,
    is truncated (a partly decoded picture is never returned) or too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own, which do not name the file
            with _opened(path) as file:
                file.load()
                turn = _UPRIGHT.get(_orientation(file))
                return as_photo(file if turn is None else file.transpose(turn))
    except UnusablePhoto:
        raise
    except UnidentifiedImageError as error:
        raise UnusablePhoto(formats.unread(path)) from error
    except Exception as error:  # each decoder raises its own on damaged files
        raise UnusablePhoto(f"cannot be read: {str(error) or type(error).__name__}") from error


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


def as_photo(picture: Image.Image) -> DecodedPhoto:
    """Convert an open picture of any mode to sRGB.

    An embedded colour profile is applied. Greys of more than 8 bits are scaled by the smallest even
    number of bits that contains the brightest, since files of 12 bits are stored as 16. Transparent
    pixels become mid-grey outside the person's mask, so that a photo may bring its own matte.
    Raises UnusablePhoto where the pixels are floating-point or negative numbers, and for a strip.
    """
    if max(picture.size) > _MOST_ELONGATED * min(picture.size):
        raise UnusablePhoto(f"is a strip of {picture.width} x {picture.height} pixels")
    picture = _in_srgb(_in_eight_bits(picture))
    if not picture.has_transparency_data:
        image = np.asarray(picture.convert("RGB"))
        return DecodedPhoto(image, np.ones(image.shape[:2], bool))
    layered = picture.convert("RGBA")
    ground = Image.new("RGBA", layered.size, (128, 128, 128, 255))
    image = np.asarray(Image.alpha_composite(ground, layered).convert("RGB"))
    return DecodedPhoto(image, np.asarray(layered)[..., 3] >= 128)


def _opened(path: Path) -> Image.Image:
    """Open a photo, a JPEG with too many pixels at half the size. Raises as read_photo does."""
    too_large = f"has more than {_MOST_PIXELS // 10**6} million pixels: scale it down"
    try:
        file = Image.open(path, formats=formats.readable())
    except Image.DecompressionBombError as error:
        try:
            file = JpegImageFile(path)
        except SyntaxError:
            raise UnusablePhoto(too_large) from error
    width, height = file.size
    if width * height > _MOST_PIXELS:
        file.draft(None, (width // 2, height // 2))
    if file.width * file.height > _MOST_PIXELS:
        file.close()
        raise UnusablePhoto(too_large)
    if file.format == "TIFF" and formats.is_raw(path, file):
        file.close()
        raise UnusablePhoto(formats.RAW)
    return file


def _orientation(picture: Image.Image) -> int:
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged metadata of sound pixels
        return 1


def _in_eight_bits(picture: Image.Image) -> Image.Image:
    """Scale greys of more bits to 8. Raises UnusablePhoto for other numbers than whole ones."""
    if picture.mode == "F":
        raise UnusablePhoto("cannot be read: its pixels are floating-point numbers")
    if not picture.mode.startswith("I"):
        return picture
    grey = np.asarray(picture)
    if grey.min() < 0:
        raise UnusablePhoto("cannot be read: its greys are negative, or of more than 31 bits")
    bits = int(grey.max()).bit_length()
    scaled = Image.fromarray((grey >> max(bits + bits % 2 - 8, 0)).astype(np.uint8))
    scaled.info = picture.info
    return scaled


def _in_srgb(picture: Image.Image) -> Image.Image:
    """Apply an embedded colour profile; one that is damaged or of another mode is ignored."""
    if picture.mode in ("La", "RGBa"):  # premultiplied
        picture = picture.convert(picture.mode[:-1] + "A")
    profile = picture.info.get("icc_profile")
    if not profile:
        return picture
    try:
        source = ImageCms.getOpenProfile(io.BytesIO(profile))
        grey = picture.mode in ("1", "L", "LA") and source.profile.xcolor_space == "GRAY"
        clear = picture.has_transparency_data
        mode = "L" if grey else "CMYK" if picture.mode == "CMYK" else "RGBA" if clear else "RGB"
        converted = ImageCms.profileToProfile(
            picture.convert(mode), source, ImageCms.createProfile("sRGB"),
            outputMode="RGBA" if mode == "RGBA" else "RGB",
        )  # fmt: skip
    except (ImageCms.PyCMSError, OSError):
        return picture
    assert converted is not None, "not in place"
    if grey and clear:
        converted.putalpha(picture.convert("RGBA").getchannel("A"))
    return converted
