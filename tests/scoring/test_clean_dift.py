"""CleanDIFT: a UNet whose features of clean pictures are tuned to those of noisy ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from portraitlab.diffusion.backbone import Backbone
from portraitlab.method.cond.none import NoCond
from portraitlab.method.fusion.none import NoFusion
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.none import NoNet
from portraitlab.scoring.clean_dift import CleanDift
from portraitlab.scoring.descriptors import Dift, SampledPair
from portraitlab.scoring.matching import ViewPairs
from portraitlab.world.splits import IDENTITIES


@pytest.fixture
def model(tiny_backbone: Callable[..., Backbone]) -> PortraitModel:
    backbone = tiny_backbone(size=64)
    return PortraitModel(backbone, NoFusion(4, 4, 16), NoCond(), NoNet(backbone, False, False))


def test_features_of_clean_pictures_come_nearer_to_those_of_noisy_ones(
    model: PortraitModel,
) -> None:
    pairs = ViewPairs.render(IDENTITIES["development"][:2], 30, size=64, cells=16)
    pair = SampledPair(pairs.style, pairs.style, pairs.profile)
    backbone = model.backbone
    before = {name: value.clone() for name, value in backbone.state_dict().items()}

    def features(descriptors: Dift | CleanDift, seed: int = 0) -> Tensor:
        with torch.no_grad():
            return descriptors(model, pair, torch.Generator().manual_seed(seed))[0]

    noisy = torch.stack([features(Dift(timestep, block=1)) for timestep in (200, 500, 800)])
    tuning = {"steps": 12, "batch_size": 2, "learning_rate": 2e-3}
    untuned, tuned = CleanDift(steps=1, batch_size=2, learning_rate=0.0), CleanDift(**tuning)

    def nearness(descriptors: CleanDift) -> float:
        return float(functional.cosine_similarity(features(descriptors), noisy, dim=2).mean())

    assert nearness(tuned) > nearness(untuned) + 0.02
    # Nothing is drawn, the tuning is repeatable and done once, and the backbone is as it was.
    assert torch.equal(features(tuned, seed=1), features(tuned, seed=2))
    once = tuned._tuned
    assert torch.equal(features(CleanDift(**tuning)), features(tuned))
    assert tuned._tuned is once
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
