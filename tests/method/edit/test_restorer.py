"""Blind restoration: it sees the broken face alone, and it comes after DIIR as if by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from portraitlab.method.edit.diir import DIIR
from portraitlab.method.edit.diir_restorer import DIIRThenRestorer
from portraitlab.method.edit.restorer import Restorer
from portraitlab.world.models.restorer import FaceRestorer


@pytest.fixture
def net() -> FaceRestorer:
    """A tiny net with random weights, which changes faces."""
    torch.manual_seed(0)
    net = FaceRestorer([8, 16], [1, 1])
    torch.nn.init.normal_(net.head.weight, std=0.2)
    return net


@pytest.fixture
def restorer(of_faces, net: FaceRestorer) -> Restorer:
    return Restorer(net, **of_faces)


def test_outside_the_mask_no_pixel_changes(restorer, model, encoder, pictures, faces) -> None:
    edited = restorer(model, encoder, pictures, faces)
    assert edited.left == ["", "", ""]
    for before, after, mask in zip(pictures, edited.pictures, edited.masks, strict=True):
        outside = (mask == 0).expand_as(before)
        assert 0.3 < outside.float().mean() < 0.95
        assert torch.equal(after[outside], before[outside])
        assert (after - before)[~outside].abs().max() > 0.05


def test_the_net_is_given_crops_of_its_size(restorer, net, model, encoder, pictures, faces) -> None:
    sizes = []
    net.register_forward_hook(lambda _, given, out: sizes.append(given[0].shape))
    restorer(model, encoder, pictures, faces)
    assert sizes == [(3, 3, 128, 128)]


def test_the_person_is_not_read(restorer, model, encoder, pictures, faces) -> None:
    usual = restorer(model, encoder, pictures, faces)
    others = faces[[1, 2, 0]]
    swapped = replace(faces, references=others.references, text=others.text, shape=others.shape)
    found = restorer(model, encoder, pictures, swapped)
    assert all(map(torch.equal, found.pictures, usual.pictures))


def test_the_chain_is_one_after_the_other(
    of_faces, restorer, model, encoder, pictures, faces
) -> None:
    diir = DIIR(**of_faces, steps=2, guidance=2.0)
    chained = DIIRThenRestorer(diir, restorer)(model, encoder, pictures, faces)
    first = diir(model, encoder, pictures, faces)
    second = restorer(model, encoder, first.pictures, faces)
    assert all(map(torch.equal, chained.pictures, second.pictures))
    for before, after, mask in zip(pictures, chained.pictures, chained.masks, strict=True):
        assert torch.equal(
            after[(mask == 0).expand_as(after)], before[(mask == 0).expand_as(after)]
        )
    turned = diir(model, encoder, restorer(model, encoder, pictures, faces).pictures, faces)
    assert not torch.equal(turned.pictures[0], second.pictures[0])


@pytest.mark.parametrize("below", [(1, 1), (None, 1), (1, None)])
def test_a_face_is_left_that_both_leave(
    below, of_faces, restorer, model, encoder, pictures, faces
) -> None:
    diir = DIIR(**of_faces, steps=2, guidance=2.0)
    diir.below, restorer.below = below
    left = DIIRThenRestorer(diir, restorer)(model, encoder, pictures, faces).left
    assert [bool(reason) for reason in left] == [None not in below] * 3
