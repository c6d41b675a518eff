"""Contact sheets of the world: portraits of people, the larger canvas, or views of one moment.

python -m portraitlab.world.sheet --out sheet.png
python -m portraitlab.world.sheet --of canvas --out canvas.png
python -m portraitlab.world.sheet --of views --out views.png
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from portraitlab.world.canvas import render_canvas
from portraitlab.world.photo import Photo
from portraitlab.world.render import render_photo
from portraitlab.world.splits import IDENTITIES
from portraitlab.world.stance import BONES
from portraitlab.world.views import correspondence, render_views

Picture = NDArray[np.uint8]
YAWS = (-0.6, -0.3, 0.0, 0.3, 0.6)


def contact_sheet(identities: Sequence[int], photos: int, size: int) -> Picture:
    """Render a sheet [len(identities) * size, photos * size, 3], one identity per row."""
    rows = [
        np.concatenate([render_photo(i, p, size).image for p in range(photos)], 1)
        for i in identities
    ]
    return np.concatenate(rows, 0)


def canvas_sheet(identities: Sequence[int], photos: int, size: int) -> Picture:
    """Render rows of half bodies, full bodies and groups, each above its annotated copy."""
    rows = []
    for framing, least, most in (("half", 1, 1), ("full", 1, 1), ("group", 2, 4)):
        drawn = []
        for photo in range(photos):
            people = least + photo % (most - least + 1)
            start = photo * 4 % max(1, len(identities) - people + 1)
            drawn.append(render_canvas(identities[start : start + people], photo, framing, size))
        rows += [np.concatenate([photo.image for photo in drawn], 1)]
        rows += [np.concatenate([annotated(photo) for photo in drawn], 1)]
    return np.concatenate(rows, 0)


def annotated(photo: Photo) -> Picture:
    """Draw visible joints, bones, face boxes and outlines of regions on a paler copy of a photo."""
    size = len(photo.image)
    picture = Image.fromarray((photo.image * 0.5 + 127).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for number, person in enumerate(photo.people):
        colour = ((220, 40, 40), (30, 90, 220), (20, 140, 60), (160, 40, 180))[number]
        region = np.pad(person.region, 1)
        inner = region[:-2, 1:-1] & region[2:, 1:-1] & region[1:-1, :-2] & region[1:-1, 2:]
        row, column = np.nonzero(person.region & ~inner)
        draw.point(np.stack([column, row], -1).ravel().tolist(), fill=(255, 255, 255))
        draw.rectangle((person.face_box * size).tolist(), outline=colour)
        joints = [(float(x), float(y)) for x, y in person.joints * size]
        for one, other in BONES:
            if person.visible[one] and person.visible[other]:
                draw.line([joints[one], joints[other]], fill=colour)
        for (x, y), visible in zip(joints, person.visible, strict=True):
            if visible:
                draw.ellipse((x - 1, y - 1, x + 1, y + 1), fill=(20, 20, 20))
    return np.asarray(picture)


def views_sheet(identities: Sequence[int], size: int) -> Picture:
    """Render rows of views of one moment, each above the middle view warped to it."""
    rows = []
    for identity in identities:
        views = render_views(identity, 0, YAWS, size)
        middle = views[len(views) // 2]
        rows += [np.concatenate([view.image for view in views], 1)]
        rows += [np.concatenate([warped(middle, view) for view in views], 1)]
    return np.concatenate(rows, 0)


def warped(source: Photo, view: Photo) -> Picture:
    """Fill a view with another view's colours at corresponding places; black where hidden."""
    found = correspondence(view, source)
    size = len(source.image)
    column, row = np.moveaxis(np.clip(found.places * size, 0, size - 1).astype(int), -1, 0)
    return source.image[row, column] * found.visible[..., None]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--of", choices=("portraits", "canvas", "views"), default="portraits")
    parser.add_argument("--out", type=Path, default=Path("sheet.png"))
    parser.add_argument("--identities", type=int, default=16)
    parser.add_argument("--photos", type=int, default=12)
    parser.add_argument("--size", type=int, help="of each photo: 64, of the canvas 128")
    parser.add_argument("--split", choices=sorted(IDENTITIES), default="development")
    arguments = parser.parse_args()
    seeds = IDENTITIES[arguments.split][: arguments.identities]
    if arguments.of == "canvas":
        sheet = canvas_sheet(seeds, arguments.photos, arguments.size or 128)
    elif arguments.of == "views":
        sheet = views_sheet(seeds, arguments.size or 64)
    else:
        sheet = contact_sheet(seeds, arguments.photos, arguments.size or 64)
    picture = Image.fromarray(sheet)
    # A palette keeps the file small; the skin tones of portraits need more colours.
    picture = picture if arguments.of == "portraits" else picture.quantize(256)
    picture.save(arguments.out, optimize=True)
    print(f"{arguments.of} of {len(seeds)} identities: {arguments.out}")


if __name__ == "__main__":
    main()
