"""The metric dino and its encoders, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from safetensors.torch import load_file
from test_metrics import make_judged, make_view
from transformers import ViTConfig, ViTImageProcessor, ViTModel

from portraitlab.faces.detector.world import WorldFaces
from portraitlab.runs.key import SCORING, content_hash, plain
from portraitlab.scoring.dino import vits16
from portraitlab.scoring.judge import Judge
from portraitlab.scoring.metrics.dino import Dino
from portraitlab.scoring.people import view_people
from portraitlab.tables.composing import composed
from portraitlab.world.models.dino import SelfSupervisedEncoder
from portraitlab.world.pretrained import load_clip, load_detector

SMALL = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
}  # fmt: skip


@pytest.fixture
def judging(
    tmp_path: Path, tiny_recogniser: Callable[..., Any], tiny_regressor: Callable[..., Any]
) -> Callable[..., Judge]:
    def make(**settings: Any) -> Judge:
        parts = tiny_recogniser(0), load_clip(), tiny_regressor()
        return Judge(*parts, cache=str(tmp_path), **settings).requires_grad_(False).eval()

    return make


@pytest.fixture
def encoder() -> SelfSupervisedEncoder:
    torch.manual_seed(0)
    return SelfSupervisedEncoder({**SMALL, "image_size": 64, "patch_size": 8})


@pytest.fixture
def pictures() -> torch.Tensor:
    return torch.rand(3, 3, 128, 128, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_it_is_the_cosine_to_the_target_s_picture_once_a_picture() -> None:
    judged = replace(make_judged(), image=torch.tensor([0, 0, 1, 1, 1, 2]))
    views = [
        replace(getattr(judged, name), dino=make_view(6, seed=seed).face)
        for name, seed in (("generated", 8), ("target", 9))
    ]
    values = Dino().measure(replace(judged, generated=views[0], target=views[1]))
    for place in (0, 2, 5):
        assert values[place] == pytest.approx(float(views[0].dino[place] @ views[1].dino[place]))
    assert values[[1, 3, 4]].isnan().all()


def test_it_is_measured_where_it_is_wanted_alone(judging, encoder, pictures) -> None:
    bare, judge = judging(), judging(dino=encoder)
    assert bare.view([pictures], again=True).dino is None
    assert judge.view([pictures], again=True, wanted=["shading"]).dino is None
    seen = judge.view([pictures], again=True, wanted=["dino"])
    torch.testing.assert_close(seen.dino, encoder(pictures))
    torch.testing.assert_close(seen.dino.norm(dim=1), torch.ones(3))
    again = judge.view([pictures], again=True, wanted=["shading", "dino"])
    torch.testing.assert_close(again.dino, seen.dino)
    assert again.shading is not None
    assert judge.titles["dino"] == "DINO-like"
    with pytest.raises(ValueError, match="choose dino=world or dino=vits16"):
        bare.view([pictures], wanted=["dino"])


def test_a_judge_without_it_is_as_before(judging, encoder) -> None:
    assert "dino" not in judging().titles
    assert judging().fingerprint != judging(dino=encoder).fingerprint
    usual = plain(OmegaConf.create(composed([])))
    before = {**usual, "judge": dict(usual["judge"])}
    assert before["judge"].pop("dino") is None
    assert content_hash(usual, SCORING) == content_hash(before, SCORING)
    chosen = plain(OmegaConf.create(composed(["metrics=dino"])))
    assert chosen["judge"]["dino"]["_target_"] == "portraitlab.world.pretrained.load_dino"
    same_metrics = {**chosen, "judge": usual["judge"]}
    assert content_hash(chosen, SCORING) != content_hash(same_metrics, SCORING)


def test_people_of_a_picture_share_that_of_the_whole(judging, encoder, pictures) -> None:
    judge = judging(dino=encoder, detector=WorldFaces(load_detector()))
    place = torch.tensor([0, 0, 1, 2])
    points = torch.rand(4, 5, 2, generator=torch.Generator().manual_seed(1))
    seen = view_people(judge, pictures, place, points, 64, wanted=["dino"])
    torch.testing.assert_close(seen.dino, encoder(pictures)[place])


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, ViTModel]:
    """A tiny model in a file with the names of the published one, and the model itself."""
    torch.manual_seed(0)
    monkeypatch.setattr(vits16, "_CONFIG", {**vits16._CONFIG, **SMALL})
    model = ViTModel(ViTConfig(**SMALL), add_pooling_layer=False).eval()
    model.save_pretrained(tmp_path / "saved")  # transformers writes the names of old
    path = tmp_path / "pytorch_model.bin"
    torch.save(load_file(tmp_path / "saved" / "model.safetensors"), path)
    return path, model


def test_the_published_names_are_read(published) -> None:
    path, model = published
    assert "encoder.layer.1.attention.attention.query.weight" in torch.load(path)
    levels = torch.randint(0, 256, (2, 224, 224, 3), generator=torch.Generator().manual_seed(0))
    files = [Image.fromarray(each.numpy().astype(np.uint8)) for each in levels]
    processor = ViTImageProcessor(
        image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225], do_resize=False
    )
    with torch.no_grad():
        token = model(**processor(files, return_tensors="pt")).last_hidden_state[:, 0]
    encoder = vits16.ViTS16(str(path))
    found = encoder(levels.permute(0, 3, 1, 2) / 127.5 - 1)
    torch.testing.assert_close(found, torch.nn.functional.normalize(token), atol=1e-5, rtol=0)
    assert encoder(torch.zeros(1, 3, 64, 64)).shape == (1, 16)
    assert not any(weight.requires_grad for weight in encoder.parameters())


def test_a_file_of_another_model_is_refused(published) -> None:
    path, _ = published
    with pytest.raises(ValueError, match=r"judge\.dino\.weights names no file.*dino-vits16"):
        vits16.ViTS16()
    state = torch.load(path)
    state["layernorm.weight"] = torch.zeros(3)
    torch.save(state, path)
    with pytest.raises(ValueError, match=r"no ViT-S/16 of DINO.*layernorm\.weight is \[3\]"):
        vits16.ViTS16(str(path))
