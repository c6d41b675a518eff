"""fid_features=inception on random weights in the published format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from cleanfid import fid, inception_pytorch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from publishing import random_inception, write_inception

from portraitlab.runs.key import SCORING, content_hash, plain
from portraitlab.scoring.fid_features.inception import Inception
from portraitlab.scoring.judge import Judge
from portraitlab.tables.composing import composed
from portraitlab.world.pretrained import load_clip, load_recogniser, load_regressor


@pytest.fixture(scope="module")
def published() -> Any:
    return random_inception()


@pytest.fixture(scope="module")
def weights(published, tmp_path_factory) -> Path:
    return write_inception(published, tmp_path_factory.mktemp("weights"))


@pytest.fixture
def images() -> torch.Tensor:
    levels = torch.randint(0, 256, (3, 3, 80, 80), generator=torch.Generator().manual_seed(1))
    return levels.float() / 127.5 - 1


def test_pictures_have_the_features_that_clean_fid_gives_their_files(
    published, weights, images, tmp_path
) -> None:
    for number, picture in enumerate(((images + 1) * 127.5).round().byte()):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(tmp_path / f"{number}.png")
    net = inception_pytorch.InceptionV3.__new__(inception_pytorch.InceptionV3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inception_pytorch, "fid_inception_v3", lambda: published)
        net.__init__(resize_input=False, normalize_input=False)
    with torch.no_grad():
        wanted = fid.get_folder_features(
            str(tmp_path),
            # The scale of clean-fid's TorchScript model, which its mode "clean" runs.
            lambda pixels: net((pixels - 128) / 128)[0].flatten(1),
            num_workers=0,
            device="cpu",
            mode="clean",
            verbose=False,
        )
    found = Inception(str(weights))(images)
    assert found.shape == (3, 2048)
    torch.testing.assert_close(found, torch.from_numpy(wanted), atol=1e-4, rtol=1e-3)
    # A difference between pictures is no rounding error.
    assert (found[0] - found[1]).abs().max() > 1e-2


def test_fid_sees_by_it(weights, images) -> None:
    judge = Judge(load_recogniser("judge"), load_clip(), load_regressor(), Inception(str(weights)))
    view = judge.view([images])
    torch.testing.assert_close(view.features, judge.fid_features(images))
    torch.testing.assert_close(view.picture, load_clip().image_embedding(images))
    digits = weights.stem.split("-")[-1]
    assert judge.titles["features"].startswith(f"Inception-v3's features, weights {digits};")
    judge.train()
    torch.testing.assert_close(judge.view([images]).features, view.features)


def test_unpublished_files_are_refused(weights, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"names no file.*pt_inception-2015-12-05-6726825d\.pth"):
        Inception()
    cut = tmp_path / "pt_inception-2015-12-05-6726825d.pth"
    cut.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"begins with \w{8}, not with 6726825d as its name says"):
        Inception(str(cut))
    with pytest.raises(ValueError, match="cannot be read as weights alone"):
        Inception(str(cut.rename(tmp_path / "cut.pth")))
    torch.save({"fc.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth is no Inception-v3 of FID \(\d+ differences"):
        Inception(str(tmp_path / "other.pth"))


def test_the_choice_builds_it_and_names_other_scores_only(weights: Path) -> None:
    usual = plain(OmegaConf.create(composed([])))
    before = {**usual, "judge": dict(usual["judge"])}
    del before["judge"]["fid_features"]
    chosen = OmegaConf.create(
        composed(["fid_features=inception", f"judge.fid_features.weights={weights}"])
    )
    assert content_hash(usual, SCORING) == content_hash(before, SCORING)
    assert content_hash(plain(chosen), SCORING) != content_hash(usual, SCORING)
    assert isinstance(instantiate(chosen.judge).fid_features, Inception)
