"""Several people in one picture: `PortraitPipeline.group` and `portraitlab generate --person`."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from portraitlab.deploy.groups import GroupMember, together
from portraitlab.deploy.pipeline import PortraitPipeline
from portraitlab.faces.alignment import face_boxes

LEFT, RIGHT = (0.05, 0.3, 0.4, 0.65), (0.6, 0.3, 0.95, 0.65)
MMF = ("system=fpga", "cond=landmarks")


@pytest.fixture(scope="module")
def photos_of(photos: Path) -> Callable[[int], list[Path]]:
    folders = sorted(photos.iterdir())
    return lambda person: sorted(folders[person].iterdir())


@pytest.fixture(scope="module")
def pipe(export: Callable[..., Path]) -> PortraitPipeline:
    return PortraitPipeline.from_pretrained(export(*MMF))


def opened(paths: list[Path]) -> list[Image.Image]:
    return [Image.open(path).copy() for path in paths]


def test_faces_are_moved_into_their_boxes_and_references_keep_apart(pipe, photos_of) -> None:
    boxes = [LEFT, RIGHT]
    alone = [
        pipe._gathered(pipe._portraits(opened(photos_of(person)[:count])), shown, "a", 0)
        for person, count in ((0, 2), (1, 1))
        for shown in [pipe.see(opened(photos_of(person))[0])]
    ]
    batch = together(alone, boxes)
    assert batch.references.mask.tolist() == [[[True, True], [True, False]]]
    torch.testing.assert_close(batch.references.global_[0, 1, :1], alone[1].references.global_[0])
    torch.testing.assert_close(
        face_boxes(batch.target_geometry.keypoints)[0], torch.tensor(boxes), atol=1e-5, rtol=0
    )
    # The 3DMM moves with the keypoints: its landmarks surround them as before.
    model = pipe.model.cond.face_model
    for person, single in enumerate(alone):
        moved = model.landmarks(batch.target_geometry.coefficients[:, person])[0]
        before = model.landmarks(single.target_geometry.coefficients)[0]
        scale = 0.35 / float(
            (lambda box: box[2] - box[0])(face_boxes(single.target_geometry.keypoints)[0])
        )
        shift = moved.mean(dim=0) - scale * before.mean(dim=0)
        torch.testing.assert_close(moved, scale * before + shift, atol=1e-4, rtol=0)
    areas = batch.regions[0]
    assert not (areas[0] & areas[1]).any()
    half = areas.shape[-1] // 2
    assert areas[0, :, :half].any()
    assert not areas[0, :, half + 1 :].any()


def test_command_and_pipeline_draw_the_same(pipe, portraitlab, export, photos_of, tmp_path) -> None:
    one, two = photos_of(0)[:2], photos_of(1)[:1]
    given = ["--person", *one, "--at", ",".join(map(str, LEFT)), "--person", *two]
    given += ["--at", ",".join(map(str, RIGHT)), "--seed", 3, "--out", tmp_path]
    code, _, problem = portraitlab("generate", export(*MMF), *given)
    assert code == 0, problem
    people = [GroupMember(opened(one), LEFT), GroupMember(opened(two), RIGHT)]
    (drawn,) = pipe.group(people, seed=3)
    with Image.open(tmp_path / "0000.png") as written:
        np.testing.assert_array_equal(np.asarray(written), np.asarray(drawn))
        about = json.loads(written.text["portraitlab"])
    assert [person["at"] for person in about["people"]] == [list(LEFT), list(RIGHT)]
    other = pipe.group([people[0], GroupMember(opened(photos_of(2)[:1]), RIGHT)], seed=3)
    assert not np.array_equal(np.asarray(other[0]), np.asarray(drawn))


def test_overlapping_faces_are_drawn_with_a_warning(pipe, photos_of, caplog) -> None:
    people = [
        GroupMember(opened(photos_of(0)[:1]), LEFT),
        GroupMember(opened(photos_of(1)[:1]), (0.2, 0.2, 0.9, 0.9)),
    ]
    with caplog.at_level(logging.WARNING):
        assert len(pipe.group(people)) == 1
    assert "the faces of persons 1 and 2 overlap; the larger is drawn in front" in caplog.text


def test_a_skeleton_is_read_where_the_run_was_trained_with_one(export, photos_of) -> None:
    pipe = PortraitPipeline.from_pretrained(export("system=fpga"))
    people = [GroupMember(opened(photos_of(0)[:1]), LEFT)]
    with pytest.raises(ValueError, match="control image is a skeleton; give the picture"):
        pipe.group(people)
    black, lines = Image.new("RGB", (64, 64)), Image.new("RGB", (64, 64))
    lines.paste((255, 0, 0), (10, 10, 50, 14))
    one, other = (np.asarray(pipe.group(people, drawn)[0]) for drawn in (black, lines))
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--person", "A", "--at", "0.1,0.2,1.4,0.9"], ["person 1", "0.1,0.2,1.4,0.9", "between"]),
        (["--person", "A", "--at", "0.5,0.2,0.4,0.9"], ["person 1", "fractions"]),
        (["--person", "A"], ["1 persons and 0 places", "--at"]),
        (["--person", "A", "--at", "0,0,1,1", "--refs", "A"], ["--refs", "leave them out"]),
        (["--refs", "A", "--at", "0,0,1,1"], ["--person"]),
        ([], ["--refs PHOTO", "--person"]),
    ],
)
def test_people_and_places_that_do_not_fit_are_named(
    portraitlab, export, photos_of, arguments, parts
) -> None:
    named = [photos_of(0)[0] if each == "A" else each for each in arguments]
    code, _, problem = portraitlab("generate", export(*MMF), *named)
    assert code == 1
    for part in parts:
        assert part in problem
    assert "Traceback" not in problem
