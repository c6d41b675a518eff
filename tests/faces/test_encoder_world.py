"""The world's encoder at tiny size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from portraitlab.faces.encoder.face_encoder import matted, photo_tensor
from portraitlab.world.render import render_photo


def test_shapes_and_ranges_are_as_promised(make_encoder) -> None:
    encoder = make_encoder()
    images = torch.cat([photo_tensor(render_photo(1, n, 64).image) for n in range(3)])
    assert images.min() >= -1
    assert images.max() <= 1
    geometry = encoder.analyse(images)
    assert geometry.keypoints.shape == (3, 5, 2)
    assert geometry.coefficients is not None
    local, global_ = encoder.encode(images, torch.ones(3, 32, 32, dtype=torch.bool), geometry)
    assert local.shape == (3, encoder.local_length, encoder.local_dim)
    assert global_.shape == (3, encoder.global_dim)
    torch.testing.assert_close(global_.norm(dim=-1), torch.ones(3))
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not encoder.training


def test_a_face_of_a_wide_photo_is_found_where_it_is(make_encoder) -> None:
    encoder = make_encoder()
    square = render_photo(1, 1, 64).image
    wide = np.pad(square, ((0, 0), (16, 16), (0, 0)), mode="edge")[:64]
    seen = encoder.analyse(photo_tensor(np.pad(wide, ((16, 16), (0, 0), (0, 0)), mode="edge")))
    found = encoder.find(wide)
    assert len(found) == 1
    expected = (seen.keypoints[0] * 96 - torch.tensor([0.0, 16.0])) / torch.tensor([96.0, 64.0])
    torch.testing.assert_close(found.keypoints[0], expected)


def test_below_the_minimum_score_there_is_no_face(make_encoder) -> None:
    assert len(make_encoder(minimum_score=1.0).find(render_photo(1, 1, 64).image)) == 0


def test_other_weights_or_settings_have_another_fingerprint(make_encoder) -> None:
    same, weights, setting = make_encoder(), make_encoder(seed=1), make_encoder(minimum_score=0.6)
    assert make_encoder().fingerprint == same.fingerprint
    assert len({same.fingerprint, weights.fingerprint, setting.fingerprint}) == 3


def test_the_matte_is_mid_grey_at_any_resolution() -> None:
    images = torch.ones(1, 3, 8, 8)
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[:, :, 2:] = True
    result = matted(images, mask)
    assert result[..., :2].abs().max() == 0
    assert result[..., 6:].min() == pytest.approx(1.0)
