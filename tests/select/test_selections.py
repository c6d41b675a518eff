"""Which reference's shape draws the landmarks."""

from __future__ import annotations

import torch

from portraitlab.select.random import RandomReference
from portraitlab.select.selection import TARGET
from portraitlab.select.target import TargetShape
from portraitlab.types import FaceGeometry

MASK = torch.tensor([[True, False, True], [False, True, False]]).repeat(500, 1)
REFERENCES = FaceGeometry(torch.zeros(1000, 3, 5, 2), torch.ones(1000, 3))
TARGETS = FaceGeometry(torch.zeros(1000, 5, 2), torch.ones(1000))


def test_random_draws_every_reference_that_is_there_and_no_other() -> None:
    def choose(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return RandomReference().choose(REFERENCES, MASK, TARGETS, generator)

    chosen = choose(0)
    assert (chosen[1::2] == 1).all()
    assert set(chosen[::2].tolist()) == {0, 2}
    assert 200 < (chosen[::2] == 0).sum() < 300
    assert torch.equal(chosen, choose(0))
    assert not torch.equal(chosen, choose(1))


def test_target_takes_the_targets_own_shape() -> None:
    chosen = TargetShape().choose(REFERENCES, MASK, TARGETS, torch.Generator())
    assert chosen.shape == (1000,)
    assert (chosen == TARGET).all()
