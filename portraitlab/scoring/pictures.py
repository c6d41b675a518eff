"""Picture grids for people to look at, with a row per sample and a titled column per role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from portraitlab.support.checks import check_finite

_EDGE, _GAP, _TITLE = 128, 4, 18


@dataclass(frozen=True)
class Shown:
    """The images of a sample for people to look at: [3, H, W] in [-1, 1].

    identity: name of the person. control: the control image, None without one.
    """

    identity: str
    references: Sequence[Tensor]
    control: Tensor | None
    generated: Tensor
    target: Tensor

    def images(self, references: int) -> dict[str, Tensor | None]:
        """Return the images by title, padded with None to this many references."""
        more = [None] * (references - len(self.references))
        titled = enumerate([*self.references, *more], start=1)
        return {
            **{f"reference {number}": image for number, image in titled},
            "control image": self.control,
            "generated": self.generated,
            "target": self.target,
        }


def to_image(image: Tensor) -> Image.Image:
    """Convert an image [3, H, W] in [-1, 1] to a picture; values outside are clipped.

    Raises ValueError for NaN and infinity.
    """
    check_finite("a picture", image)
    pixels = ((image.detach().cpu().float().clamp(-1, 1) + 1) * 127.5).round().byte()
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def grid(
    titles: Sequence[str], rows: Sequence[Sequence[Tensor | None]], edge: int = _EDGE
) -> Image.Image:
    """Draw rows of images [3, H, W] in [-1, 1] under the titles of their columns.

    None leaves its place empty. Images are resized to `edge` pixels by nearest neighbours.
    """
    assert all(len(row) == len(titles) for row in rows), "a row of another length"
    step = edge + _GAP
    canvas = Image.new(
        "RGB", (len(titles) * step + _GAP, len(rows) * step + _TITLE + _GAP), "white"
    )
    draw = ImageDraw.Draw(canvas)
    for column, title in enumerate(titles):
        draw.text((_GAP + column * step, 3), title, fill="black")
        for row, images in enumerate(rows):
            image = images[column]
            if image is not None:
                drawn = to_image(image).resize((edge, edge), Image.Resampling.NEAREST)
                canvas.paste(drawn, (_GAP + column * step, _TITLE + row * step))
    return canvas


def sheet(samples: Sequence[Shown]) -> Image.Image:
    """Draw references, control image, portrait and target, with a row per sample."""
    count = max(len(sample.references) for sample in samples)
    rows = [sample.images(count) for sample in samples]
    return grid(list(rows[0]), [list(row.values()) for row in rows])


def save_each(samples: Sequence[Shown], folder: Path) -> None:
    """Write each image as a file of its own, `<identity>/<title>.png`."""
    for sample in samples:
        for title, image in sample.images(len(sample.references)).items():
            if image is not None:
                save(to_image(image), folder / sample.identity / f"{title.replace(' ', '-')}.png")


def save(picture: Image.Image, path: Path, text: Mapping[str, str] | None = None) -> None:
    """Write a PNG atomically; text: its text chunks by name."""
    about = PngInfo()
    for name, value in (text or {}).items():
        about.add_itxt(name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}")
    picture.save(half, format="PNG", pnginfo=about)
    half.replace(path)
