"""The judge computes the views that all runs share once, and other judges have their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from portraitlab.data.photos import to_tensor
from portraitlab.scoring.judge import Judge
from portraitlab.types import View
from portraitlab.world.pretrained import load_clip, load_recogniser, load_regressor
from portraitlab.world.render import render_photo

MEASURED = [field.name for field in fields(View) if field.default is MISSING]


@pytest.fixture
def judging(
    tmp_path: Path,
    tiny_recogniser: Callable[..., Any],
    tiny_regressor: Callable[..., Any],
) -> Callable[..., Judge]:
    """A judge over one cache, with the images it looked at counted in `judge.looked`."""

    def make(seed: int = 0, **settings: Any) -> Judge:
        recogniser, clip, regressor = tiny_recogniser(seed), load_clip(), tiny_regressor()
        judge = Judge(recogniser, clip, regressor, batch_size=4, cache=str(tmp_path), **settings)
        judge.requires_grad_(False).eval()
        judge.looked = []  # type: ignore[assignment]
        recogniser.register_forward_pre_hook(
            lambda module, inputs: judge.looked.append(len(inputs[0]))  # type: ignore[operator]
        )
        return judge

    return make


def pictures(seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(6, 3, 64, 64, generator=generator) * 2 - 1]


def same(one: View, other: View) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in MEASURED)


def test_pictures_of_all_runs_are_looked_at_once(judging: Callable[..., Judge]) -> None:
    first, again = judging(), judging()
    seen = first.view(pictures(), again=True)
    assert first.looked == [4, 2]
    assert same(again.view(pictures(), again=True), seen)
    assert again.looked == []
    assert same(again.view(pictures()), seen)  # as portraits are, which no other run draws
    assert again.looked == [4, 2]
    again.view(pictures(seed=1), again=True)
    assert again.looked == [4, 2, 4, 2]


@pytest.mark.parametrize(
    "changed", [{"seed": 1}, {"face_threshold": 0.6}, {"precision": "bf16-mixed"}]
)
def test_another_judge_looks_again(judging: Callable[..., Judge], changed: dict[str, Any]) -> None:
    judging().view(pictures(), again=True)
    other = judging(**changed)
    other.view(pictures(), again=True)
    assert other.looked == [4, 2]


def test_the_shipped_judge_in_half_sees_nearly_the_same() -> None:
    photos = np.stack([render_photo(identity, 0, 64).image for identity in range(6)])
    models = load_recogniser("judge"), load_clip(), load_regressor()
    single, half = (
        Judge(*models, precision=name).view([to_tensor(photos)])
        for name in ("32-true", "bf16-mixed")
    )
    for name in ("identity", "face", "picture"):
        one, other = getattr(single, name), getattr(half, name)
        assert other.dtype == torch.float32
        assert not torch.equal(one, other)
        assert (one * other).sum(dim=-1).min() > 0.999
        torch.testing.assert_close(other.norm(dim=-1), torch.ones(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(half.pose, single.pose, atol=0.01, rtol=0)  # radians


def test_a_damaged_view_is_computed_again(judging: Callable[..., Judge], tmp_path: Path) -> None:
    judge = judging()
    before = judge.view(pictures(), again=True)
    path = min((tmp_path / "views").glob("view-*"))
    content = path.read_bytes()
    assert set(load_file(path)) == set(MEASURED)
    path.write_bytes(content[:50])
    after = judge.view(pictures(), again=True)
    assert same(after, before)
    assert path.read_bytes() == content


def test_shading_is_measured_for_those_who_want_it(judging: Callable[..., Judge]) -> None:
    judge = judging()
    usual = judge.view(pictures(), again=True)
    assert usual.shading is None
    shaded = judge.view(pictures(), again=True, wanted=["shading"])
    assert shaded.shading is not None
    assert shaded.shading.shape == (6, 6, 6)
    assert same(shaded, usual)
    before = list(judge.looked)
    again = judge.view(pictures(), again=True, wanted=["shading"])
    assert torch.equal(again.shading, shaded.shading)
    assert judge.view(pictures(), again=True).shading is None
    assert judge.looked == before  # both are cached, each under its own key
