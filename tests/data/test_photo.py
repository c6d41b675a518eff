"""Reading photo files: every mode and rotation as it should look, and nothing half-read."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from portraitlab.data.photo import UnusablePhoto, read_photo


@pytest.fixture
def picture() -> Image.Image:
    """A picture of smooth colours with a dark corner, which distinguishes all rotations."""
    rows, columns = np.mgrid[:40, :60]
    pixels = np.stack([4 * columns, 6 * rows, 2 * (columns + rows)], axis=-1).astype(np.uint8)
    pixels[:10, :10] = 0
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    ("orientation", "undo"),
    [
        (1, lambda p: p),
        (2, lambda p: p[:, ::-1]),
        (3, lambda p: p[::-1, ::-1]),
        (4, lambda p: p[::-1]),
        (5, lambda p: p.transpose(1, 0, 2)),
        (6, lambda p: np.rot90(p, 1)),
        (7, lambda p: p[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda p: np.rot90(p, -1)),
    ],
)
def test_exif_rotation_is_honoured(tmp_path, picture, orientation, undo) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(undo(np.asarray(picture))))
    stored.save(tmp_path / "photo.png", exif=exif)
    np.testing.assert_array_equal(read_photo(tmp_path / "photo.png").image, np.asarray(picture))


def test_tags_of_unusual_types_do_not_keep_a_photo_from_being_turned(tmp_path, picture) -> None:
    entries = [
        struct.pack("<HHII", 0x010F, 5, 1, 38),  # the maker as a fraction, stored at byte 38
        struct.pack("<HHII", 0x0112, 3, 1, 6),
    ]
    tags = b"II*\0" + struct.pack("<IH", 8, 2) + b"".join(entries) + struct.pack("<III", 0, 72, 1)
    stored = picture.transpose(Image.Transpose.ROTATE_90)
    stored.save(tmp_path / "photo.png", exif=b"Exif\0\0" + tags)
    np.testing.assert_array_equal(read_photo(tmp_path / "photo.png").image, np.asarray(picture))


@pytest.mark.parametrize("fault", [TypeError, AttributeError, KeyError, ZeroDivisionError])
def test_whatever_a_decoder_raises_is_the_photos_fault(
    tmp_path, picture, monkeypatch, fault
) -> None:
    picture.save(tmp_path / "photo.png")

    def load(self: Image.Image) -> None:
        raise fault("of a decoder")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    with pytest.raises(UnusablePhoto, match="of a decoder"):
        read_photo(tmp_path / "photo.png")


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "1", "LA", "PA", "I;16", "YCbCr", "RGBA"])
def test_every_mode_becomes_rgb(tmp_path, picture, mode) -> None:
    if mode == "I;16":
        grey = np.asarray(picture.convert("L")).astype(np.uint16) * 257
        stored = Image.fromarray(grey)
    elif mode == "PA":
        stored = picture.convert("P").convert("PA")
    else:
        stored = picture.convert(mode)
    path = tmp_path / "photo.tiff"
    stored.save(path)
    photo = read_photo(path)
    assert photo.image.shape == (40, 60, 3)
    assert photo.image.dtype == np.uint8
    assert photo.person_mask.all()
    brightness = np.asarray(picture.convert("L")).mean()
    assert photo.image.mean() == pytest.approx(brightness, abs=12)


def test_transparency_is_the_persons_matte(tmp_path, picture) -> None:
    alpha = Image.fromarray(np.where(np.arange(60) < 30, 255, 0)[None].repeat(40, 0).astype("u1"))
    picture.putalpha(alpha)
    picture.save(tmp_path / "photo.png")
    photo = read_photo(tmp_path / "photo.png")
    assert photo.person_mask[:, :30].all()
    assert not photo.person_mask[:, 30:].any()
    assert (photo.image[:, 30:] == 128).all()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("x.jpg", {}),
        ("x.jpg", {"progressive": True}),
        ("x.png", {}),
        ("x.webp", {}),
        ("x.gif", {}),
        ("x.bmp", {}),
        ("x.tiff", {"compression": "tiff_lzw"}),
        ("x.ppm", {}),
    ],
)
def test_a_file_cut_off_anywhere_never_passes_for_the_picture(
    tmp_path: Path, picture: Image.Image, name: str, options: dict
) -> None:
    buffer = io.BytesIO()
    path = tmp_path / name
    picture.save(path, **options)
    buffer.write(path.read_bytes())
    whole, data = read_photo(path).image, buffer.getvalue()
    refused = 0
    for cut in np.linspace(0, len(data) - 1, 60).astype(int):
        path.write_bytes(data[:cut])
        try:
            # A cut after the last pixel loses nothing and may pass.
            np.testing.assert_array_equal(read_photo(path).image, whole)
        except UnusablePhoto:
            refused += 1
    assert refused >= 50


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is an empty file"),
        (b"hello", "is not a picture"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "Git LFS pointer"),
    ],
)
def test_what_is_no_picture_says_so(tmp_path, content, message) -> None:
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(UnusablePhoto, match=message):
        read_photo(tmp_path / "x.jpg")


def test_floating_point_pixels_are_refused(tmp_path) -> None:
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "x.tiff")
    with pytest.raises(UnusablePhoto, match="floating-point"):
        read_photo(tmp_path / "x.tiff")
