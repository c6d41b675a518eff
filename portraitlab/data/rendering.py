"""Render photos of the miniature world as rows of a photo store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import repeat
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
) -> Iterator[dict[str, Any]]:
    """Render photos of one person by identity seed and photo seed, `size` pixels a side.

    The view has view_size pixels: the same photo, or for bodies a portrait of the same person.
    Yields values by the columns of portraitlab.data.schema.
    """
    if not photos:
        return
    closer = framing in CLOSE_UPS
    with _applying(workers) as apply:
        identities, numbers = zip(*photos, strict=True)
        framings = [framing_of(framing, number) for number in numbers]
        images = apply(render_photo, identities, numbers, repeat(size), framings)
        views: Iterator[Photo | None] = repeat(None)
        if closer or view_size != size:
            shown = repeat("portrait" if closer else framing)
            views = apply(render_photo, identities, numbers, repeat(view_size), shown)
        jobs = zip(photos, images, views, strict=False)
        for (identity, number), photo, view in track(
            jobs, description="Rendering photos", total=len(photos)
        ):
            (person,) = photo.people
            yield {
                "identity": str(identity),
                "name": str(number),
                **_picture(photo, person, photo.person_mask),
                **({} if view is None else {"view": view.image}),
                **(_close_up(person, view) if closer and view is not None else {}),
            }


def rendered_views(
    moments: Sequence[tuple[int, int]],
    yaws: Sequence[Sequence[float]],
    size: int,
    view_size: int,
    workers: int,
) -> Iterator[dict[str, Any]]:
    """Render moments, by identity seed and photo seed, from cameras at yaws in radians.

    Yields values by the columns of portraitlab.data.schema, with each moment as an identity.
    """
    with _applying(workers) as apply:
        identities, numbers = zip(*moments, strict=True)
        images = apply(render_views, identities, numbers, yaws, repeat(size))
        closer: Iterator[list[Photo] | None] = repeat(None)
        if view_size != size:
            closer = apply(render_views, identities, numbers, yaws, repeat(view_size))
        jobs = zip(moments, images, closer, strict=False)
        for (identity, number), photos, views in track(
            jobs, description="Rendering views", total=len(moments)
        ):
            for place, photo in enumerate(photos):
                yield {
                    "identity": f"{identity}-{number}",
                    "name": str(place),
                    **_picture(photo, photo.people[0], photo.person_mask),
                    **({} if views is None else {"view": views[place].image}),
                }


def rendered_groups(
    groups: Sequence[Group], size: int, view_size: int, workers: int
) -> Iterator[dict[str, Any]]:
    """Render groups, each as one row for each person, whose view is a portrait of the person."""
    if not groups:
        return
    people = [(seed, number) for seeds, number in groups for seed in seeds]
    with _applying(workers) as apply:
        pictures = apply(render_canvas, *zip(*groups, strict=True), repeat("group"), repeat(size))
        views = apply(render_photo, *zip(*people, strict=True), repeat(view_size))
        jobs = zip(groups, pictures, strict=False)
        for (seeds, number), photo in track(jobs, "Rendering groups", total=len(groups)):
            for seed, person in zip(seeds, photo.people, strict=True):
                view = next(views)
                yield {
                    "identity": str(seed),
                    "name": f"group-{number}",
                    **_picture(photo, person, person.region),
                    "view": view.image,
                    **_close_up(person, view, f"{'-'.join(map(str, seeds))}/{number}"),
                }


def rendered_again(identity: str, name: str, scene: str, framing: str, size: int) -> Photo:
    """Render a photo again, by its identity, name and scene in the store."""
    if not scene:
        return render_photo(int(identity), int(name), size, framing_of(framing, int(name)))
    people, number = scene.split("/")
    return render_canvas([int(seed) for seed in people.split("-")], int(number), "group", size)


@contextmanager
def _applying(workers: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """Return a `map` over rendering processes, or in this process without workers."""
    if not workers:
        yield map
        return
    with rendering_pool(workers) as pool:
        yield partial(pool.map, chunksize=16)


def _picture(photo: Photo, person: Person, region: Any) -> dict[str, Any]:
    """Describe a picture and one of its people, who fills a region bool [size, size]."""
    face = person.face
    return {
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


def _close_up(person: Person, view: Photo, scene: str = "") -> dict[str, Any]:
    """Describe a view that shows a person of a picture closer."""
    return {
        "view_mask": view.person_mask,
        "scene": scene,
        "scene_keypoints": person.face.keypoints,
    }
