"""Views of one moment: one light, one background, and places that correspond."""

from dataclasses import replace

import numpy as np
import pytest

from portraitlab.world.background import FIELD_OF_VIEW, draw_background
from portraitlab.world.camera import rotation, turned_pose
from portraitlab.world.canvas import render_canvas
from portraitlab.world.identity import make_identity
from portraitlab.world.photo import Photo
from portraitlab.world.render import render_photo, render_scene
from portraitlab.world.settings import make_settings
from portraitlab.world.sheet import views_sheet, warped
from portraitlab.world.views import correspondence, render_views, seen_from


def plain_views(seed: int, yaws: list[float], framing: str = "portrait") -> list[Photo]:
    """Sharp views in soft light without glasses, whose thin frames a pixel mixes with the skin."""
    settings = replace(
        make_settings(seed, 0, framing),
        style="photo", blur=0.0, light="hard", glasses="none", background="gradient",
    )  # fmt: skip
    return [render_scene([(make_identity(seed), seen_from(settings, yaw))], 128) for yaw in yaws]


def sampled(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Values [H, W, C] between pixels, at places [H, W, 2] in image fractions."""
    size = len(values)
    at = np.clip(places * size - 0.5, 0, size - 1.001)
    corner = at.astype(int)
    (column, row), (right, down) = np.moveaxis(corner, -1, 0), np.moveaxis(at - corner, -1, 0)
    right, down = right[..., None], down[..., None]
    above = values[row, column] * (1 - right) + values[row, column + 1] * right
    below = values[row + 1, column] * (1 - right) + values[row + 1, column + 1] * right
    return above * (1 - down) + below * down


def test_the_first_camera_sees_the_photo_itself() -> None:
    left, middle, right = render_views(5, 2, [-0.4, 0.0, 0.4])
    assert left.pose[0] < middle.pose[0] < right.pose[0]
    np.testing.assert_array_equal(left.expression, right.expression)
    np.testing.assert_array_equal(middle.image, render_photo(5, 2).image)
    assert left.caption == right.caption


def test_a_camera_turns_head_body_and_light_alike() -> None:
    settings = replace(make_settings(7, 1), yaw=0.3, pitch=0.2, roll=-0.2)
    seen, turn = seen_from(settings, 0.7), rotation(0.7, 0, 0)
    head = turn @ rotation(*settings.pose[:3])
    np.testing.assert_allclose(rotation(*seen.pose[:3]), head, atol=1e-6)
    body = turn @ rotation(settings.body_yaw, 0, 0)
    np.testing.assert_allclose(rotation(seen.body_yaw, 0, 0), body, atol=1e-6)
    lights = [render_scene([(make_identity(7), each)]).light for each in (settings, seen)]
    np.testing.assert_allclose(lights[1].direction, turn @ lights[0].direction, atol=1e-6)
    np.testing.assert_allclose(lights[1].brightest, turn @ [0, 0, 1], atol=1e-6)
    np.testing.assert_array_equal(lights[1].directional, lights[0].directional)
    again = seen_from(seen_from(settings, 0.7), -0.7)
    assert (again.yaw, again.camera_yaw) == pytest.approx((settings.yaw, 0.0))
    assert turned_pose(0.3, 0.2, -0.2, 0.0) == pytest.approx((0.3, 0.2, -0.2))


def test_the_light_is_the_one_that_surfaces_are_drawn_in() -> None:
    """The brightness of a bald head's top and sides follows from the light's numbers."""
    photo = plain_views(300_000, [0.0])[0]
    direction, strength = photo.light.direction, photo.light.directional.mean()
    assert np.linalg.norm(direction) == pytest.approx(1, abs=1e-6)
    mirrored = replace(make_settings(300_000, 0), light="hard", style="photo", blur=0.0)
    mirrored = replace(mirrored, light_azimuth=1.3, yaw=0.0, roll=0.0)
    bright = render_scene([(make_identity(300_000), mirrored)], 64)
    assert bright.light.direction[0] > 0
    grey = bright.image.mean(-1) * bright.face_mask
    halves = [grey[:, side].sum() for side in (np.s_[32:], np.s_[:32])]
    assert halves[0] > 1.2 * halves[1]
    assert strength == pytest.approx(0.843 * make_settings(300_000, 0).exposure, rel=0.01)


@pytest.mark.parametrize("framing", ["portrait", "half", "full"])
@pytest.mark.parametrize("turn", [0.35, -0.6])
def test_another_view_shows_the_same_colours_at_corresponding_places(
    framing: str, turn: float
) -> None:
    for seed in (300_000, 300_001, 300_014):
        view, other = plain_views(seed, [0.0, turn], framing)
        found = correspondence(view, other)
        person = found.visible & view.person_mask
        assert person.sum() > 0.5 * view.person_mask.sum()
        off = np.abs(sampled(other.image, found.places) - view.image).mean(-1)
        unmoved = np.abs(other.image.astype(int) - view.image).mean(-1)
        assert np.median(off[person]) < 3
        assert off[person].mean() < 0.5 * unmoved[person].mean()
        assert off[~found.visible & view.person_mask].mean() > 1.5 * off[person].mean()
        behind = found.visible & ~view.person_mask
        # of the background's pixels, those along the person mix both
        assert not behind.any() or np.percentile(off[behind], 75) < 1
        assert framing != "full" or behind.mean() > 0.25


def test_the_sheet_warps_one_view_to_another() -> None:
    view, other = plain_views(300_000, [0.0, 0.4])
    filled = warped(other, view)
    found = correspondence(view, other)
    assert not filled[~found.visible].any()
    person = found.visible & view.person_mask
    off = np.abs(filled.astype(int) - view.image)[person]
    assert np.median(off) < 3
    assert views_sheet([300_000], 64).shape == (2 * 64, 5 * 64, 3)


def test_places_lead_there_and_back() -> None:
    for seed in (300_000, 300_001, 300_014):
        view, other = plain_views(seed, [-0.2, 0.3])
        there, back = correspondence(view, other), correspondence(other, view)
        pixel = np.clip((there.places * 128).astype(int), 0, 127)
        column, row = pixel[..., 0], pixel[..., 1]
        both = there.visible & back.visible[row, column]
        assert both.sum() > 0.8 * there.visible.sum()
        centres = np.stack(np.meshgrid(np.arange(128), np.arange(128)), -1)
        # from the pixel that the place lies in, so up to half a pixel beside it
        beside = there.places * 128 - (pixel + 0.5)
        off = np.linalg.norm(back.places[row, column] * 128 + beside - (centres + 0.5), axis=-1)
        assert np.median(off[both]) < 0.15
        assert np.percentile(off[both], 90) < 1


def test_what_is_hidden_or_out_of_frame_is_not_visible() -> None:
    """A cheek turns away; a view corresponds to itself wholly."""
    view, other = plain_views(300_001, [0.0, 0.9])
    itself = correspondence(view, view)
    assert itself.visible.mean() > 0.98
    found = correspondence(view, other)
    assert not found.visible[(found.places < 0).any(-1) | (found.places > 1).any(-1)].any()
    faces = found.visible & view.face_mask
    right, left = np.s_[:, 64:], np.s_[:, :64]
    seen = [faces[half].sum() / view.face_mask[half].sum() for half in (left, right)]
    assert seen[0] > seen[1] + 0.2
    with pytest.raises(ValueError, match="two photos of one person"):
        correspondence(view, render_canvas([1, 2], 0, "group"))
    small = render_views(300_001, 0, [0.0, 0.9], 64)
    assert abs(correspondence(*small).visible.mean() - found.visible.mean()) < 0.1


@pytest.mark.parametrize("background", ["bokeh", "striped", "sky", "room"])
def test_the_background_passes_behind_as_one_panorama(background: str) -> None:
    settings = replace(make_settings(3, 0), background=background)
    near, far = (draw_background(seen_from(settings, yaw), 3, 64) for yaw in (1.5, 1.75))
    shift = round(0.25 / FIELD_OF_VIEW * 64)
    off = np.abs(near[:, shift:] - far[:, :-shift]).max(-1)
    assert (off < 0.01).mean() > 0.99
    assert near.std() > 0.02
    first = draw_background(settings, 3, 64)
    assert not np.allclose(first, near)
