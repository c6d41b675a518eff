"""The larger canvas: its people are where their joints, boxes, regions and captions have them."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from portraitlab.world.canvas import make_canvas, render_canvas
from portraitlab.world.caption import description, group_caption
from portraitlab.world.identity import SHAPE_SIZE, make_identity
from portraitlab.world.mesh import EXPRESSION_NAMES
from portraitlab.world.models.text_to_image import PROMPT_LENGTH
from portraitlab.world.photo import Photo
from portraitlab.world.sheet import annotated, canvas_sheet
from portraitlab.world.stance import BONES, JOINTS
from portraitlab.world.tokenizer import CANVAS_VOCABULARY, UNKNOWN, VOCABULARY, WordTokenizer

GROUPS = [(range(200_000 + 10 * n, 200_000 + 10 * n + 2 + n % 3), n) for n in range(24)]


def joint(photo: Photo, name: str, person: int = 0) -> np.ndarray:
    return photo.people[person].joints[JOINTS.index(name)]


def test_the_same_arguments_give_the_same_pixels() -> None:
    first = render_canvas([5, 6, 7], 3, "group")
    assert first.image.shape == (128, 128, 3)
    assert np.array_equal(first.image, render_canvas([5, 6, 7], 3, "group").image)
    assert not np.array_equal(first.image, render_canvas([5, 6, 7], 4, "group").image)
    small = render_canvas([5, 6, 7], 3, "group", 96)
    np.testing.assert_array_equal(first.people[1].joints, small.people[1].joints)
    assert abs(first.image.mean() - small.image.mean()) < 2


def test_faces_are_as_large_as_the_canvas_wants_them() -> None:
    """Head units of about .22 for half and .095 for full bodies (FPGA's tables 1 and 2)."""
    for seed in range(8):
        half, full = (render_canvas([seed], 0, framing) for framing in ("half", "full"))
        assert 0.20 <= half.pose[3] <= 0.24
        assert 0.090 <= full.pose[3] <= 0.097
        assert full.face_mask.mean() < 0.02 < half.face_mask.mean() < 0.12
        feet = joint(full, "left ankle"), joint(full, "right ankle")
        assert all(0 < x < 1 and 0.8 < y < 1 for x, y in feet), "a full body stands in the frame"
        assert full.person_mask[:1].sum() == full.person_mask[-1:].sum() == 0


def test_groups_show_every_face_of_two_to_four_people() -> None:
    widths = {2: [], 3: [], 4: []}
    for seeds, number in GROUPS:
        photo = render_canvas(seeds, number, "group")
        assert [person.face.identity for person in photo.people] == list(seeds)
        for person in photo.people:
            assert person.face.face_mask.sum() > 20
            left, top, right, bottom = person.face_box
            assert 0 <= left < right <= 1
            assert 0 <= top < bottom <= 1
            widths[len(seeds)].append(128 * np.sqrt((right - left) * (bottom - top)))
    assert np.mean(widths[2]) > np.mean(widths[3]) > np.mean(widths[4]) > 12


def test_regions_share_out_the_people_and_hold_their_faces() -> None:
    touching = 0
    for seeds, number in GROUPS:
        photo = render_canvas(seeds, number, "group")
        regions = np.stack([person.region for person in photo.people])
        assert regions.sum(0).max() == 1
        np.testing.assert_array_equal(regions.any(0), photo.person_mask)
        for person in photo.people:
            assert person.region[person.face.face_mask].mean() > 0.98
            left, top, right, bottom = np.round(person.face_box * 128).astype(int)
            rows, columns = np.nonzero(person.face.face_mask)
            assert top - 1 <= rows.min() <= rows.max() <= bottom + 1
            assert left - 1 <= columns.min() <= columns.max() <= right + 1
        grown = [region | np.roll(region, 1, 1) for region in regions]
        touching += any((one & other).sum() > 5 for one, other in combinations(grown, 2))
    assert len(GROUPS) / 4 < touching < len(GROUPS), "some groups overlap, some do not"


def test_visible_joints_are_on_their_person_and_hidden_ones_are_not_seen() -> None:
    shown = []
    for seeds, number in GROUPS:
        for person in render_canvas(seeds, number, "group").people:
            assert person.joints.shape == (18, 2)
            column, row = np.clip(person.joints * 128, 0, 127).astype(int)[person.visible].T
            assert person.region[row, column].mean() > 0.85
            inside = ((person.joints >= 0) & (person.joints < 1)).all(1)
            assert not person.visible[~inside].any()
            shown.append((inside.sum(), person.visible.sum()))
    inside, visible = np.sum(shown, 0)
    assert 0.6 < visible / inside < 0.97, "neighbours and bodies hide some joints"


def test_joints_agree_with_the_face_and_with_each_other() -> None:
    photo = next(
        p for p in (render_canvas([9], n, "full") for n in range(20)) if abs(p.pose[0]) < 0.15
    )
    np.testing.assert_allclose(joint(photo, "right eye"), photo.landmarks72[68], atol=1e-6)
    np.testing.assert_allclose(joint(photo, "nose"), photo.landmarks[30], atol=1e-6)
    for part in ("shoulder", "hip", "knee", "ankle", "eye", "ear"):
        assert joint(photo, f"right {part}")[0] < joint(photo, f"left {part}")[0]
    heights = [joint(photo, f"left {part}")[1] for part in ("shoulder", "hip", "knee", "ankle")]
    assert heights == sorted(heights)
    assert {number for bone in BONES for number in bone} == set(range(18))


def test_arms_are_held_in_many_ways() -> None:
    photos = [render_canvas([seed], 1, "full", 32) for seed in range(40)]
    arms = [(photo, side) for photo in photos for side in ("left", "right")]
    parts = ("wrist", "shoulder", "hip")
    wrist, shoulder, hip = (np.stack([joint(p, f"{s} {part}") for p, s in arms]) for part in parts)
    raised = wrist[:, 1] < shoulder[:, 1]
    on_hip = np.linalg.norm(wrist - hip, axis=1) < 0.1
    assert 0.1 < raised.mean() < 0.4
    assert 0.1 < on_hip.mean() < 0.4


def test_captions_name_people_clothes_and_places() -> None:
    for seeds, number in GROUPS:
        scene = [settings for _, settings in make_canvas(seeds, number, "group")]
        text = render_canvas(seeds, number, "group", 64).caption
        framing = "half body" if scene[0].framing == "half" else "full body"
        assert f"of a group of {('two', 'three', 'four')[len(seeds) - 2]}, {framing}, " in text
        first = min(scene, key=lambda settings: settings.x)
        after = text.split("left a person in a ")[1]
        assert after.startswith(first.clothes_colour)
        assert text.count("a person in a") == len(seeds)
    body = render_canvas([4], 0, "full")
    assert ", full body, " in body.caption
    assert make_identity(4).eye_colour in body.description


def test_captions_fit_the_canvas_vocabulary_which_only_grows() -> None:
    assert CANVAS_VOCABULARY[: len(VOCABULARY)] == VOCABULARY
    scenes = [
        make_canvas(seeds, n, "group") for start in range(60) for seeds, n in
        [(range(4 * start, 4 * start + 2 + start % 3), start)]
    ]  # fmt: skip
    texts = [group_caption([settings for _, settings in scene]) for scene in scenes]
    for framing in ("half", "full"):
        photos = [render_canvas([seed], 0, framing, 32) for seed in range(60)]
        texts += [photo.caption for photo in photos] + [photo.description for photo in photos]
    # The longest caption there can be.
    longest = [
        replace(
            settings, style="black and white photo", blur=0.01, clothes_pattern="striped",
            glasses="round",
        ) for _, settings in make_canvas(range(4), 0, "group")
    ]  # fmt: skip
    texts.append(group_caption(longest))
    striking = replace(
        make_identity(0), hair_colour="dark brown", hair_style="fringe", beard="full beard",
        moles=np.ones((1, 3)), birthmarks=np.ones((1, 3)), scars=np.ones((1, 4)), freckles=1,
        makeup=1, shape=np.full(SHAPE_SIZE, 2.0),
    )  # fmt: skip
    shot = replace(
        longest[0], framing="half", cover="scarf", shave="usual", other_haircut=False, yaw=0.5,
        expression=np.eye(8)[EXPRESSION_NAMES.index("jaw open")],
    )  # fmt: skip
    texts.append(description(striking, shot))
    tokenizer = WordTokenizer(PROMPT_LENGTH, CANVAS_VOCABULARY)
    assert not (tokenizer(texts) == UNKNOWN).any()
    assert not [text for text in texts if tokenizer.cut(text)]
    assert WordTokenizer(PROMPT_LENGTH).size < tokenizer.size


def test_the_sheet_draws_the_annotations() -> None:
    sheet = canvas_sheet(range(6), 3, 64)
    assert sheet.shape == (6 * 64, 3 * 64, 3)
    photo = render_canvas([4], 0, "full", 64)
    plain, drawn = (photo.image * 0.5 + 127).astype(int), annotated(photo)
    changed = (np.abs(plain - drawn) > 2).any(-1)
    assert changed[photo.person_mask].any()
    column, row = (photo.people[0].joints[photo.people[0].visible] * 64).astype(int).T
    assert changed[row, column].mean() > 0.9


def test_wrong_numbers_of_people_are_refused() -> None:
    with pytest.raises(ValueError, match="'bust' is unknown; choose half, full, group"):
        render_canvas([5], 0, "bust")
    with pytest.raises(ValueError, match="shows 2 to 4 people; got 5 identity seeds"):
        render_canvas(range(5), 0, "group")
    with pytest.raises(ValueError, match="shows one person; got 2"):
        render_canvas([1, 2], 0, "half")
