"""Selections on real photos, whose heads have no 3DMM, where such photos are present."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from placed import REAL
from torch import Tensor

from portraitlab.app.task.faults import blur
from portraitlab.data.features import Frozen
from portraitlab.data.folder import FolderData
from portraitlab.data.photo_set import PhotoSet
from portraitlab.data.testset import ScoringSet
from portraitlab.faces.alignment import align
from portraitlab.faces.encoder.insightface import InsightFaceEncoder
from portraitlab.method.select.angle import ClosestAngle
from portraitlab.method.select.quality import BestQuality
from portraitlab.method.select.quality_angle import QualityAndAngle
from portraitlab.method.select.random import RandomReference
from portraitlab.world.pretrained import load_backbone, load_clip, load_quality, load_recogniser

pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real photos at {REAL}")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> PhotoSet:
    """Up to six photos of each of six people."""
    folder = tmp_path_factory.mktemp("real")
    largest = sorted((REAL / "photos").iterdir(), key=lambda one: -len(list(one.iterdir())))[:6]
    for identity in largest:
        (folder / "photos" / identity.name).mkdir(parents=True)
        for file in sorted(identity.iterdir())[:6]:
            (folder / "photos" / identity.name / file.name).symlink_to(file)
    encoder = InsightFaceEncoder(str(REAL / "weights" / "insightface"), load_clip(), "lab_mbf")
    frozen = Frozen(encoder, load_backbone(), load_recogniser("recogniser"))
    data = FolderData(str(folder / "cache"), str(folder / "photos"), test_share=0.5)
    both = data.train_photos(frozen), data.score_photos(frozen)
    return replace(both[0], identities=both[0].identities + both[1].identities)


def test_a_photo_that_is_made_worse_scores_less(photos: PhotoSet) -> None:
    model, rows = load_quality(), torch.arange(len(photos.store))
    views, keypoints = photos.store.views(rows), photos.features.geometry.keypoints

    def scores(images: Tensor) -> Tensor:
        small = torch.nn.functional.interpolate(images, 96, mode="bilinear", antialias=True)
        return model(align(small, keypoints, model.crop_size))

    own = photos.quality(model, rows[:, None])[:, 0]
    torch.testing.assert_close(own, scores(views))
    below = views.clone()
    for image, points in zip(below, keypoints, strict=True):
        image[:, int(points[2, 1] * 256) :] = 0.5  # from the nose's tip on
    for worse in (blur(views, 0.02), 0.37 * (views + 1) - 1, below):
        assert (scores(worse) < own).float().mean() > 0.9


def test_all_selections_take_a_reference(photos: PhotoSet) -> None:
    assert photos.features.geometry.coefficients is None
    quality = load_quality()
    scored = (ClosestAngle(), BestQuality(quality), QualityAndAngle(quality))
    selections = (RandomReference(), *scored)
    taken = [ScoringSet(photos, 4, selection).samples for selection in selections]
    for samples in taken:
        assert all(sample.shape_reference in sample.references for sample in samples)
    assert len(taken) == len(set(taken))
