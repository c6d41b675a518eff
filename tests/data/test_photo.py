"""Reading photo files: every mode and rotation as it should look, and nothing half-read."""

from __future__ import annotations

import io
import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

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
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", r"HEIC or HEIF"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "is JPEG XL: convert"),
        (b"\xff\x0a\xfa\x1f", "is JPEG XL: convert"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "is a raw photo"),
        (b"FUJIFILMCCD-RAW 0201", "is a raw photo"),
        (b"\0\0\0\x14ftypqt  ", "is a film"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2mp41", "is a film"),
        (b"\n<!DOCTYPE html><html><svg>", "is a web page"),
        (b'<?xml version="1.0"?>\n<!-- a --><svg xmlns="">', "is SVG"),
        (b"<!---->" * 140, "is not a picture"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is a Thumbs.db"),
        (b"%PDF-1.7", "is a PDF"),
        (b'{"url": ""}', "is JSON"),
    ],
)
def test_what_is_no_picture_is_named_by_its_format(tmp_path, content, message) -> None:
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(UnusablePhoto, match=message):
        read_photo(tmp_path / "x.jpg")


def test_a_strip_is_refused(tmp_path) -> None:
    Image.new("RGB", (3000, 2)).save(tmp_path / "x.png")
    with pytest.raises(UnusablePhoto, match="is a strip of 3000 x 2 pixels"):
        read_photo(tmp_path / "x.png")


def test_floating_point_pixels_are_refused(tmp_path) -> None:
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "x.tiff")
    with pytest.raises(UnusablePhoto, match="floating-point"):
        read_photo(tmp_path / "x.tiff")


def icc_profile(gamma: float, primaries: np.ndarray) -> bytes:
    """Make a matrix profile (ICC.1:2001) of primaries [3, 3], as columns of XYZ under D50."""

    def number(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    def place(xyz: np.ndarray) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(map(number, xyz))

    curve = b"curv\0\0\0\0" + struct.pack(">IHxx", 1, round(gamma * 256))
    tags = {b"wtpt": place(np.array([0.9642, 1.0, 0.8249]))}
    colours = (b"rXYZ", b"gXYZ", b"bXYZ")
    tags |= {name: place(xyz) for name, xyz in zip(colours, primaries.T, strict=True)}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    table, data = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(data), len(content))
        data += content
    head = struct.pack(">I4xI", 128 + len(table + data), 0x02100000) + b"mntrRGB XYZ "
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">iii", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + table + data


# Columns of XYZ under D50, as in the profiles of ICC and Apple.
SRGB = np.array([[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]])
P3 = np.array([[0.5151, 0.2920, 0.1571], [0.2412, 0.6922, 0.0666], [-0.0011, 0.0419, 0.7841]])
ADOBE = np.array([[0.6097, 0.2053, 0.1492], [0.3111, 0.6257, 0.0632], [0.0195, 0.0609, 0.7446]])


@pytest.mark.parametrize(
    ("gamma", "primaries"), [(1.8, SRGB), (2.2, P3), (2.2, ADOBE)], ids=["1.8", "P3", "Adobe"]
)
@pytest.mark.parametrize("kind", ["RGB", "P", "RGBA", "turned"])
def test_colours_become_those_of_srgb(tmp_path, picture, gamma, primaries, kind) -> None:
    # Convert by the definition: linear light, primaries, sRGB's curve (IEC 61966-2-1).
    stored = picture.convert("P" if kind == "P" else "RGB")
    pixels = np.asarray(stored.convert("RGB")) / 255
    light = (pixels**gamma @ primaries.T @ np.linalg.inv(SRGB).T).clip(0, 1)
    expected = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    exif = Image.Exif()
    if kind == "turned":
        stored, exif[0x0112] = stored.transpose(Image.Transpose.ROTATE_90), 6
    elif kind == "RGBA":
        alpha = Image.new("L", picture.size, 255)
        alpha.paste(0, (30, 0, 60, 40))
        stored.putalpha(alpha)
        expected[:, 30:] = 128
    stored.save(tmp_path / "x.png", icc_profile=icc_profile(gamma, primaries), exif=exif)
    image = read_photo(tmp_path / "x.png").image
    assert np.abs(image - expected).max() <= 3
    assert np.abs(image - expected).mean() < 0.6


def test_a_profile_of_srgb_or_of_another_mode_changes_nothing(tmp_path, picture) -> None:
    grey = picture.convert("L")
    for name, stored, profile in (
        ("srgb.png", picture, ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()),
        ("damaged.png", picture, icc_profile(1.8, P3)[:200]),
        ("cmyk.jpg", picture.convert("CMYK"), icc_profile(1.8, P3)),
    ):
        stored.save(tmp_path / name)
        plain = read_photo(tmp_path / name).image
        stored.save(tmp_path / name, icc_profile=profile)
        np.testing.assert_array_equal(read_photo(tmp_path / name).image, plain)
    grey.save(tmp_path / "grey.png", icc_profile=icc_profile(1.0, SRGB))
    assert read_photo(tmp_path / "grey.png").image.mean() > np.asarray(grey).mean() + 20


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("kind", [np.uint16, np.int32])
def test_greys_of_any_depth_keep_their_brightness(tmp_path, picture, bits, kind) -> None:
    grey = np.asarray(picture.convert("L"))
    Image.fromarray(grey.astype(kind) << (bits - 8)).save(tmp_path / "x.tiff")
    image = read_photo(tmp_path / "x.tiff").image
    np.testing.assert_array_equal(image, np.repeat(grey[..., None], 3, axis=2))
    Image.fromarray(-grey.astype(np.int32)).save(tmp_path / "x.tiff")
    with pytest.raises(UnusablePhoto, match="negative"):
        read_photo(tmp_path / "x.tiff")


@pytest.mark.parametrize("name", ["x.png", "x.webp", "x.jpg"])
def test_odd_metadata_is_no_obstacle_to_sound_pixels(tmp_path, picture, name) -> None:
    picture.save(tmp_path / name, lossless=True)
    plain = read_photo(tmp_path / name).image
    texts = PngImagePlugin.PngInfo()
    texts.add_text("text", "x" * 2_000_000, zip=True)
    texts.add_itxt("more", "x" * 2_000_000)
    odd = [{"exif": b"garbage" * 10}]
    if name == "x.png":
        odd += [{"pnginfo": texts}, {"icc_profile": bytes(2_000_000)}]
    for options in odd:
        picture.save(tmp_path / name, lossless=True, **options)
        np.testing.assert_array_equal(read_photo(tmp_path / name).image, plain)


def test_a_photo_of_200_megapixels_is_read_smaller_or_refused(tmp_path) -> None:
    huge = Image.new("L", (16320, 12240), 100)
    huge.save(tmp_path / "x.jpg")
    image = read_photo(tmp_path / "x.jpg").image
    assert image.shape == (6120, 8160, 3)
    assert (image == 100).all()
    huge.save(tmp_path / "x.png")
    with pytest.raises(UnusablePhoto, match="more than 100 million pixels: scale it down"):
        read_photo(tmp_path / "x.png")


def test_postscript_starts_no_program(tmp_path, monkeypatch) -> None:
    program, started = tmp_path / "gs", tmp_path / "started"
    program.write_text(f"#!/bin/sh\ntouch {started}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path) + os.pathsep + os.environ["PATH"])
    (tmp_path / "x.jpg").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n"
    )
    with pytest.raises(UnusablePhoto, match="is PostScript"):
        read_photo(tmp_path / "x.jpg")
    assert not started.exists()


def test_heic_is_read_where_pillow_heif_is_installed(tmp_path, picture, monkeypatch) -> None:
    heif = pytest.importorskip("pillow_heif", reason="portraitlab[heic] is not installed")
    heif.from_pillow(picture).save(tmp_path / "x.jpg", quality=-1, chroma=444)
    image = read_photo(tmp_path / "x.jpg").image
    assert np.abs(image.astype(int) - np.asarray(picture)).mean() < 3
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(UnusablePhoto, match=r"is HEIC or HEIF: pip install 'portraitlab\[heic\]'"):
        read_photo(tmp_path / "x.jpg")


@pytest.mark.parametrize(
    ("name", "tags"), [("x.jpg", {254: 1}), ("y.dng", {}), ("z", {50706: b"1"})]
)
def test_the_thumbnail_in_a_raw_photo_is_not_taken_for_it(tmp_path, picture, name, tags) -> None:
    picture.save(tmp_path / name, format="TIFF", tiffinfo=tags)
    with pytest.raises(UnusablePhoto, match="is a raw photo of a camera: develop it"):
        read_photo(tmp_path / name)
