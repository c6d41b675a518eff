"""Each choice of face3d, composed as run.py composes it, fits photos and draws landmarks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from published import write_deca, write_flame, write_tddfa

from portraitlab.faces.alignment import TEMPLATE
from portraitlab.tables.composing import composed
from portraitlab.types import FaceGeometry


@pytest.mark.parametrize(
    ("choice", "writers", "sizes"),
    [("bfm", [write_tddfa], (40, 10)), ("flame", [write_flame, write_deca], (100, 53))],
)
def test_a_choice_fits_and_draws(tmp_path: Path, choice, writers, sizes) -> None:
    for write in writers:
        write(tmp_path)
    settings = OmegaConf.create(composed([f"face3d={choice}", f"face3d.root={tmp_path}"]))
    fitter, cond = instantiate(settings.face3d.fitter), instantiate(settings.cond)
    keypoints = 0.25 + 0.5 * TEMPLATE.repeat(2, 1, 1)
    found = fitter.fit(torch.rand(2, 3, 96, 96) * 2 - 1, keypoints)
    assert (found.shape.shape[1], found.expression.shape[1]) == sizes
    geometry = FaceGeometry(keypoints, torch.ones(2), found)
    control = cond(geometry, geometry[[1, 0]], 32)
    assert control.shape == (2, 3, 32, 32)
    # What is drawn is the model that was fitted, by whatever way it was read.
    drawn = cond.face_model.landmarks(found)
    torch.testing.assert_close(drawn, fitter.face_model.landmarks(found))
    assert not [name for name, one in cond.named_parameters() if one.requires_grad]
    assert not cond.state_dict(), "a run would save the model's licensed numbers"


def test_without_one_the_worlds_head_is_drawn_and_judged() -> None:
    settings = composed([])
    world = "portraitlab.world.pretrained"
    assert settings["cond"]["face_model"] == {"_target_": f"{world}.load_face_model"}
    assert settings["judge"]["regressor"] == {
        "_target_": f"{world}.load_regressor",
        "name": "judge_regressor",
    }
    assert settings["face3d"]["fitter"] is None
