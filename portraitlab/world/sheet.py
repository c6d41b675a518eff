"""A contact sheet of the world: rows are identities, columns photos.

python -m portraitlab.world.sheet --out sheet.png
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from portraitlab.world.render import render_photo
from portraitlab.world.splits import IDENTITIES


def contact_sheet(identities: Sequence[int], photos: int, size: int) -> NDArray[np.uint8]:
    """[len(identities) * size, photos * size, 3]: one identity a row."""
    rows = [
        np.concatenate([render_photo(i, p, size).image for p in range(photos)], 1)
        for i in identities
    ]
    return np.concatenate(rows, 0)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("sheet.png"))
    parser.add_argument("--identities", type=int, default=16)
    parser.add_argument("--photos", type=int, default=12)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--split", choices=sorted(IDENTITIES), default="development")
    arguments = parser.parse_args()
    seeds = IDENTITIES[arguments.split][: arguments.identities]
    Image.fromarray(contact_sheet(seeds, arguments.photos, arguments.size)).save(arguments.out)
    print(f"{len(seeds)} identities x {arguments.photos} photos: {arguments.out}")


if __name__ == "__main__":
    main()
