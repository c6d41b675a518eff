"""Render photos of the miniature world as rows of a photo store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
from rich.progress import track

from portraitlab.world.canvas import render_canvas
from portraitlab.world.photo import Person, Photo
from portraitlab.world.pool import rendering_pool
from portraitlab.world.render import render_photo
from portraitlab.world.views import render_views

_IN_TURN = {"bodies": ("half", "full"), "people": ("portrait", "half", "full")}
"""Framings that a person's photos have in turn."""
CLOSE_UPS = ("half", "full", *_IN_TURN, "group")
"""Framings in which a face can be too small to be encoded: its view is a portrait of the person."""
PEOPLE_OF_GROUPS = (2, 3, 4)
"""Numbers of people in groups, in turn."""

Row = dict[str, Any]
"""Values of a photo by the columns of portraitlab.data.schema."""

Group = tuple[tuple[int, ...], int]
"""Seeds of the people of a group, and the seed of its photo."""


def groups_of(seeds: Sequence[int]) -> list[tuple[int, ...]]:
    """Divide people into groups of two, three and four in turn; a last one alone is left out."""
    groups: list[tuple[int, ...]] = []
    start = 0
    while start < len(seeds):
        count = PEOPLE_OF_GROUPS[len(groups) % len(PEOPLE_OF_GROUPS)]
        groups.append(tuple(seeds[start : start + count]))
        start += count
    return [group for group in groups if len(group) > 1]


def framing_of(framing: str, number: int) -> str:
    """Return the framing of a person's photo by its number."""
    turns = _IN_TURN.get(framing, (framing,))
    return turns[number % len(turns)]


def rendered_photos(
    photos: Sequence[tuple[int, int]], size: int, view_size: int, framing: str, workers: int
) -> Iterator[Row]:
    """Render photos of one person by identity seed and photo seed, `size` pixels a side.

    The view has view_size pixels: the same photo, or for bodies a portrait of the same person.
    """
    render = partial(_photo, size, view_size, framing)
    return _rendered(render, photos, "Rendering photos", workers)


def rendered_views(
    moments: Sequence[tuple[int, int]],
    yaws: Sequence[Sequence[float]],
    size: int,
    view_size: int,
    workers: int,
) -> Iterator[Row]:
    """Render moments, by identity seed and photo seed, from cameras at yaws in radians.

    Yields rows with each moment as an identity.
    """
    jobs = [(*moment, turns) for moment, turns in zip(moments, yaws, strict=True)]
    return _rendered(partial(_views, size, view_size), jobs, "Rendering views", workers)


def rendered_groups(
    groups: Sequence[Group], size: int, view_size: int, workers: int
) -> Iterator[Row]:
    """Render groups, each as one row for each person, whose view is a portrait of the person."""
    return _rendered(partial(_group, size, view_size), groups, "Rendering groups", workers)


def _rendered(
    render: Callable[..., list[Row]], jobs: Sequence[tuple[Any, ...]], title: str, workers: int
) -> Iterator[Row]:
    """Yield the rows that `render` makes of each job, in rendering processes or in this one."""
    if not jobs:
        return
    with rendering_pool(workers) if workers else nullcontext() as pool:
        apply = map if pool is None else partial(pool.map, chunksize=4)
        for rows in track(apply(render, *zip(*jobs, strict=True)), title, total=len(jobs)):
            yield from rows


def _photo(size: int, view_size: int, framing: str, identity: int, number: int) -> list[Row]:
    """Render a photo of one person as a row."""
    closer = framing in CLOSE_UPS
    photo = render_photo(identity, number, size, framing_of(framing, number))
    row = _picture(photo, photo.people[0], photo.person_mask, str(identity), str(number))
    if closer or view_size != size:
        view = render_photo(identity, number, view_size, "portrait" if closer else framing)
        row |= _close_up(photo.people[0], view) if closer else {"view": view.image}
    return [row]


def _views(
    size: int, view_size: int, identity: int, number: int, yaws: Sequence[float]
) -> list[Row]:
    """Render a moment as one row for each camera."""
    rows = [
        _picture(photo, photo.people[0], photo.person_mask, f"{identity}-{number}", str(place))
        for place, photo in enumerate(render_views(identity, number, yaws, size))
    ]
    if view_size != size:
        for row, view in zip(rows, render_views(identity, number, yaws, view_size), strict=True):
            row["view"] = view.image
    return rows


def _group(size: int, view_size: int, seeds: tuple[int, ...], number: int) -> list[Row]:
    """Render a group as one row for each person."""
    photo = render_canvas(seeds, number, "group", size)
    scene = f"{'-'.join(map(str, seeds))}/{number}"
    return [
        _picture(photo, person, person.region, str(seed), f"group-{number}")
        | _close_up(person, render_photo(seed, number, view_size), scene)
        for seed, person in zip(seeds, photo.people, strict=True)
    ]


def rendered_again(identity: str, name: str, scene: str, framing: str, size: int) -> Photo:
    """Render a photo again, by its identity, name and scene in the store."""
    if not scene:
        return render_photo(int(identity), int(name), size, framing_of(framing, int(name)))
    people, number = scene.split("/")
    return render_canvas([int(seed) for seed in people.split("-")], int(number), "group", size)


def _picture(photo: Photo, person: Person, region: Any, identity: str, name: str) -> Row:
    """Describe a picture and one of its people, who fills a region bool [size, size]."""
    face = person.face
    return {
        "identity": identity,
        "name": name,
        "caption": photo.caption,
        "flawed": bool(photo.flaws),
        "image": photo.image,
        "person_mask": region,
        "face_mask": face.face_mask,
        "face_box": person.face_box,
        "joints": person.joints,
        "visible": person.visible.astype(np.uint8),
        "true_shape": face.shape,
        "true_expression": face.expression,
        "true_pose": face.pose,
    }


def _close_up(person: Person, view: Photo, scene: str = "") -> Row:
    """Describe a view that shows a person of a picture closer."""
    return {
        "view": view.image,
        "view_mask": view.person_mask,
        "scene": scene,
        "scene_keypoints": person.face.keypoints,
    }
