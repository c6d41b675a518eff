"""Draw the picture sheet of a table: people in columns, their photos above each row's portraits."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from portraitlab.tables.shown import ShownTable

_CELL, _GAP, _TEXT = 128, 6, 17


def picture_sheet(shown: ShownTable) -> Image.Image:
    """Draw a column for each person: small references two abreast, the target, the portraits."""
    font = ImageFont.load_default(size=_TEXT)
    lines: list[tuple[str, Sequence[Image.Image]]] = [
        ("references", [_block(own) for own in shown.references]),
        ("target", [_sized(picture, _CELL) for picture in shown.targets]),
        *((row.name, [_sized(each, _CELL) for each in row.portraits]) for row in shown.rows),
    ]
    names = round(max(font.getlength(name) for name, _ in lines)) + 3 * _GAP
    heights = [max(picture.height for picture in pictures) + _GAP for _, pictures in lines]
    # Separate the photos from the portraits.
    heights[1] += 2 * _GAP
    width = names + len(shown.people) * (_CELL + _GAP)
    sheet = Image.new("RGB", (width, sum(heights) + _GAP), "white")
    draw, top = ImageDraw.Draw(sheet), _GAP
    for (name, pictures), height in zip(lines, heights, strict=True):
        middle = top + pictures[0].height // 2
        draw.text((names - 2 * _GAP, middle), name, fill="black", font=font, anchor="rm")
        for place, picture in enumerate(pictures):
            sheet.paste(picture, (names + place * (_CELL + _GAP), top))
        top += height
    return sheet


def _block(pictures: Sequence[Image.Image]) -> Image.Image:
    """Arrange a person's references two abreast."""
    half = _CELL // 2
    block = Image.new("RGB", (_CELL, half * -(-len(pictures) // 2)), "white")
    for place, picture in enumerate(pictures):
        block.paste(_sized(picture, half), (half * (place % 2), half * (place // 2)))
    return block


def _sized(picture: Image.Image, edge: int) -> Image.Image:
    """Resize to an edge in pixels; enlarged pictures keep square pixels."""
    grows = picture.width < edge
    way = Image.Resampling.NEAREST if grows else Image.Resampling.LANCZOS
    return picture.resize((edge, edge), way)
