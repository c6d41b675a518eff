"""Check the training data and the figures of the face quality model."""

import numpy as np
import pytest
import torch

from portraitlab.pretraining.photos import load_photos
from portraitlab.pretraining.quality import load_targets, separation, taken_again
from portraitlab.world.settings import make_settings
from portraitlab.world.splits import IDENTITIES

PLACE = ("foundation_check", 6, 5)
SHOTS = [(seed, photo) for seed in IDENTITIES[PLACE[0]][: PLACE[1]] for photo in range(PLACE[2])]
FLAWS = [make_settings(*shot).flaws for shot in SHOTS]


def test_taken_again_a_photo_keeps_all_but_its_flaws() -> None:
    for number in range(200):
        settings = make_settings(5, number)
        again = taken_again(settings)
        assert not again.flaws
        assert (again == settings) == (not settings.flaws)
        assert (again.pose == settings.pose).all()
        assert (again.expression == settings.expression).all()


def test_a_target_is_what_a_recogniser_still_sees(tmp_path) -> None:
    photos = load_photos(*PLACE, tmp_path, workers=1)
    targets = load_targets(photos, *PLACE, tmp_path, workers=1)
    poor = torch.tensor([bool(found) for found in FLAWS])
    assert 0 < poor.sum() < len(poor)
    assert (targets[~poor] == 1).all()
    assert (targets[poor] < 0.999).all()
    assert targets[poor].mean() > 0.5
    assert torch.equal(load_targets(photos, *PLACE, tmp_path, workers=1), targets)


def test_separation_counts_pairs() -> None:
    scores = torch.from_numpy(np.random.default_rng(0).integers(0, 5, len(SHOTS))).float()
    figures = separation(scores, *PLACE)
    sound = [float(s) for s, found in zip(scores, FLAWS, strict=True) if not found]
    covered = {"mask", "scarf", "hand"}
    poor = [float(s) for s, found in zip(scores, FLAWS, strict=True) if covered & set(found)]
    pairs = [(one > other) + 0.5 * (one == other) for one in sound for other in poor]
    assert figures["auc_covered"] == pytest.approx(np.mean(pairs), abs=1e-3)
    assert figures["score_sound"] == pytest.approx(np.mean(sound), abs=1e-3)
