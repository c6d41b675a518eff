"""The estimator of the light: its data, and that the fit finds a linear light."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from portraitlab.pretraining.light import LitFaces, errors, fitted, lit_faces
from portraitlab.world.models.light import LightEstimator
from portraitlab.world.render import render_photo
from portraitlab.world.settings import make_settings
from portraitlab.world.splits import IDENTITIES


def shaded_by(true: LightEstimator, faces: int, seed: int) -> LitFaces:
    """Faces whose light is linear in their shading and pose."""
    draw = torch.Generator().manual_seed(seed)
    shading = 0.4 + 0.2 * torch.rand(faces, 6, 6, generator=draw)
    pose = 0.3 * torch.randn(faces, 3, generator=draw)
    with torch.no_grad():
        vectors = true.linear(true.features(shading, pose))
    return LitFaces(shading, pose, normalize(vectors, dim=1), vectors.norm(dim=1))


def test_the_fit_finds_a_linear_light() -> None:
    torch.manual_seed(0)
    true = LightEstimator()
    model = fitted(shaded_by(true, 4000, 0))
    figures = errors(model, shaded_by(true, 200, 1))
    assert figures["error_degrees"] < 0.1 * figures["error_of_mean_degrees"]
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_the_estimate_does_not_depend_on_brightness() -> None:
    torch.manual_seed(0)
    model = LightEstimator()
    shading, pose = torch.rand(5, 6, 6) + 0.1, 0.3 * torch.randn(5, 3)
    torch.testing.assert_close(model(0.3 * shading, pose), model(shading, pose))


def test_faces_have_the_renderer_s_light_and_no_flaw() -> None:
    faces = lit_faces("foundation_check", 2, 3, workers=1)
    seeds = IDENTITIES["foundation_check"][:2]
    shots = [(seed, photo) for seed in seeds for photo in range(3)]
    sound = [shot for shot in shots if not make_settings(*shot).flaws]
    assert len(faces) == len(sound)
    light = render_photo(*sound[-1]).light
    torch.testing.assert_close(faces.direction[-1], torch.from_numpy(light.direction))
    directional, ambient = light.directional.sum(), light.ambient.sum()
    assert float(faces.share[-1]) == pytest.approx(directional / (directional + ambient))
