"""Faces are cut out, restored and put back: users' complaints about detailers are tried."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from portraitlab.data.photo import DecodedPhoto
from portraitlab.data.portrait import cut_portrait
from portraitlab.faces.alignment import TEMPLATE
from portraitlab.method.cond.keypoints import KeypointCond
from portraitlab.method.edit.bicubic import Bicubic
from portraitlab.method.edit.diir import DIIR
from portraitlab.method.edit.inpaint import Inpaint
from portraitlab.method.edit.progressive import Progressive
from portraitlab.method.edit.restoration import FaceRestoration
from portraitlab.method.edit.squares import square_around
from portraitlab.method.model import PortraitModel


class Painted(FaceRestoration):
    """Paint every crop in one grey."""

    def restore(self, model, crops, condition, masks, beside=None) -> Tensor:
        return torch.full_like(crops, 0.5)


@pytest.fixture(params=["diir", "inpaint", "progressive"])
def edit(request, of_faces) -> FaceRestoration:
    made = {"diir": DIIR, "inpaint": Inpaint, "progressive": Progressive}[request.param]
    return made(**of_faces, steps=2, guidance=2.0)


def to_bytes(picture: Tensor) -> Tensor:
    return ((picture.clamp(-1, 1) + 1) * 127.5).round().byte()


def test_outside_the_mask_no_byte_changes(edit, model, encoder, pictures, faces) -> None:
    edited = edit(model, encoder, pictures, faces)
    assert edited.left == ["", "", ""]
    for before, after, mask in zip(pictures, edited.pictures, edited.masks, strict=True):
        outside = (mask == 0).expand_as(before)
        assert 0.3 < outside.float().mean() < 0.95
        assert torch.equal(after[outside], before[outside])
        assert torch.equal(to_bytes(after)[outside], to_bytes(before)[outside])
        assert not torch.equal(to_bytes(after), to_bytes(before))
    assert after.min() >= -1
    assert after.max() <= 1


class BodyCond(KeypointCond):
    """Draw bodies alone, and faces by keypoints."""

    def forward(self, *given) -> Tensor:
        raise ValueError("a face has no body")

    def of_faces(self) -> KeypointCond:
        return KeypointCond()


def test_faces_are_drawn_by_the_condition_of_faces(edit, model, encoder, pictures, faces) -> None:
    expected = edit(model, encoder, pictures, faces).pictures
    body = PortraitModel(model.backbone, model.fusion, BodyCond(), model.net).eval()
    found = edit(body, encoder, pictures, faces).pictures
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_given_pictures_are_not_written(edit, model, encoder, pictures, faces) -> None:
    before = [picture.clone() for picture in pictures]
    edit(model, encoder, pictures, faces)
    assert all(torch.equal(*pair) for pair in zip(pictures, before, strict=True))


def test_all_faces_at_once_are_those_of_one_by_one(edit, model, encoder, pictures, faces) -> None:
    together = edit(model, encoder, pictures, faces)
    edit.at_once = 1
    in_turn = edit(model, encoder, pictures, faces)
    one = pictures
    for face in range(3):
        one = edit(model, encoder, one, faces[[face]]).pictures
    for all_, each, single in zip(together.pictures, in_turn.pictures, one, strict=True):
        torch.testing.assert_close(each, all_, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(single, all_, atol=1e-3, rtol=1e-3)


def test_each_face_gets_its_own_person(edit, model, encoder, pictures, faces) -> None:
    """Complaint: the first person's face is on everybody."""
    usual = edit(model, encoder, pictures, faces).pictures
    others = faces[[1, 1, 2]]
    first_changed = replace(faces, references=others.references, text=faces.text)
    changed = edit(model, encoder, pictures, first_changed).pictures
    width = pictures[0].shape[-1]
    left, right = slice(None, width // 2), slice(width // 2, None)
    assert (changed[0] - usual[0])[..., left].abs().max() > 1e-3
    assert torch.equal(changed[0][..., right], usual[0][..., right])
    assert torch.equal(changed[1], usual[1])


def test_faces_of_different_people_differ(edit, model, encoder, pictures, faces) -> None:
    """Complaint: all faces are alike."""
    one = pictures[1]
    same = [edit(model, encoder, [one], replace(faces[[2]], picture=torch.zeros(1).long()))]
    for person in (0, 1):
        known = replace(faces[[2]], references=faces[[person]].references)
        known = replace(known, picture=torch.zeros(1).long())
        same.append(edit(model, encoder, [one], known))
    first, second, third = (each.pictures[0] for each in same)
    for one_, two in ((first, second), (first, third), (second, third)):
        assert (one_ - two).abs().max() > 1e-3


def test_no_box_is_visible(of_faces, model, encoder, faces) -> None:
    """Complaint: a box. Grey painted on grey falls off at most as the Gaussian's edge does."""
    pictures = [torch.full((3, 72, 96), -0.5), torch.full((3, 60, 48), -0.5)]
    edited = Painted(**of_faces, soften=0.06)(model, encoder, pictures, faces)
    hard = Painted(**of_faces, soften=0.0)(model, encoder, pictures, faces)

    def steepest(picture: Tensor) -> float:
        return max(float(picture.diff(dim=axis).abs().max()) for axis in (1, 2))

    for soft, sharp, mask in zip(edited.pictures, hard.pictures, edited.masks, strict=True):
        assert steepest(sharp) > 0.8
        assert steepest(soft) < 0.45
        assert mask.max() > 0.95
        torch.testing.assert_close(soft, -0.5 + mask.expand_as(soft), atol=1e-5, rtol=0)


def test_large_faces_are_left(of_faces, model, encoder, pictures, faces) -> None:
    edit = Painted(**(of_faces | {"below": 20}))
    edited = edit(model, encoder, pictures, faces)
    widths = [
        round(0.57 * square_around(points, *pictures[int(number)].shape[:0:-1]).side)
        for points, number in zip(faces.keypoints, faces.picture, strict=True)
    ]
    for reason, width in zip(edited.left, widths, strict=True):
        assert (f"is {width} px wide, which is not below 20" == reason) == (width >= 20)
    assert Painted(**of_faces)(model, encoder, pictures, faces).left == ["", "", ""]


def test_without_landmarks_a_face_is_left(of_faces, model, make_encoder, pictures, faces) -> None:
    blind = make_encoder()
    blind.regressor.head[-1].bias.data[-1] = -9.0
    edited = Painted(**of_faces)(model, blind, pictures, faces)
    assert edited.left == ["has no landmarks that the encoder finds"] * 3
    assert all(torch.equal(*pair) for pair in zip(edited.pictures, pictures, strict=True))
    assert not any(mask.any() for mask in edited.masks)


def test_a_face_at_the_edge_is_restored_inside_the_picture(of_faces, model, encoder, faces) -> None:
    picture = torch.zeros(3, 40, 40)
    corner = replace(faces[[0]], keypoints=faces.keypoints[:1] - 0.35)
    edited = Painted(**of_faces)(model, encoder, [picture], corner)
    assert edited.left == [""]
    assert edited.pictures[0].shape == picture.shape
    assert edited.masks[0][0, :4, :4].any()


def test_bicubic_keeps_a_smooth_picture(of_faces, model, encoder, pictures, faces) -> None:
    edited = Bicubic(**of_faces)(model, encoder, pictures, faces)
    for before, after in zip(pictures, edited.pictures, strict=True):
        assert (after - before).abs().mean() < 0.01


def test_inpainting_does_not_see_the_face(of_faces, model, encoder, pictures, faces) -> None:
    """Its result depends on the crop outside the mask and on the landmarks alone."""
    edit = Inpaint(**of_faces, steps=2, guidance=1.0, seed=3)
    other = Inpaint(**of_faces, steps=2, guidance=1.0, seed=4)
    first = edit(model, encoder, pictures, faces).pictures[0]
    assert torch.equal(edit(model, encoder, pictures, faces).pictures[0], first)
    assert not torch.allclose(other(model, encoder, pictures, faces).pictures[0], first)


@pytest.mark.parametrize("side", [17, 64, 90])
def test_a_square_frames_a_face_as_a_portrait(side) -> None:
    keypoints = TEMPLATE * (side / 200) + 0.3
    pixels = torch.rand(200, 200, 3).mul(255).byte().numpy()
    portrait = cut_portrait(DecodedPhoto(pixels, pixels[..., 0] >= 0), keypoints.numpy(), 1)
    square = square_around(keypoints, 200, 200)
    own = pixels[square.top : square.top + square.side, square.left : square.left + square.side]
    assert (own == portrait.pixels).all()
    wide = square_around(keypoints, 200, 200, margin=2.0)
    assert wide.side == pytest.approx(2 * square.side, abs=1)
