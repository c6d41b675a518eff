"""clip=vit_l14 and vit_h14 on tiny models saved as the published ones are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from placed import ROOT
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
)

from portraitlab.faces.clip.vit import ClipVision
from portraitlab.support.hashes import weights_fingerprint
from portraitlab.support.hub import MissingPublished, Repository

FILES = ("config.json", "preprocessor_config.json", "model.safetensors")
CONF = ROOT / "conf" / "clip"
VISION = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
    "image_size": 28, "patch_size": 14, "projection_dim": 8,
}  # fmt: skip
TEXT = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
MEAN, STD = [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]
KINDS: dict[str, Callable[[], Any]] = {
    "whole": lambda: CLIPModel(
        CLIPConfig(vision_config=VISION, text_config=TEXT | {"vocab_size": 9}, projection_dim=8)
    ),
    "vision": lambda: CLIPVisionModel(CLIPVisionConfig(**VISION)),
    "projected": lambda: CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION)),
}


def save(folder: Path, kind: str = "whole") -> Any:
    torch.manual_seed(0)
    model = KINDS[kind]().eval()
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": MEAN, "image_std": STD, "crop_size": 28})
    )
    return model


def build(folder: Path | None, **settings: Any) -> ClipVision:
    weights = Repository("openai/tiny", "abc123", FILES, 0.01, "MIT", "clip.folder")
    return ClipVision(weights, folder=None if folder is None else str(folder), **settings)


@pytest.fixture
def crops() -> torch.Tensor:
    return torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_tokens_are_those_before_the_last_layer(tmp_path, crops, kind) -> None:
    model = save(tmp_path, kind)
    vision = model if kind == "vision" else model.vision_model
    clip = build(tmp_path)
    assert (clip.crop_size, clip.local_dim, clip.local_length) == (28, 16, 5)
    assert not any(parameter.requires_grad for parameter in clip.parameters())
    # Step by step: what the published preprocessing and each layer do.
    mean, std = (torch.tensor(each)[:, None, None] for each in (MEAN, STD))
    states = vision.pre_layrnorm(vision.embeddings(((crops + 1) / 2 - mean) / std))
    *others, last = vision.encoder.layers
    for layer in others:
        states = layer(states, None)
    torch.testing.assert_close(clip.patch_tokens(crops), states)
    states = last(states, None)
    torch.testing.assert_close(build(tmp_path, tokens="last").patch_tokens(crops), states)
    pooled = build(tmp_path, tokens="pooled")
    assert pooled.local_length == 1
    torch.testing.assert_close(pooled.patch_tokens(crops), vision.post_layernorm(states[:, :1]))
    assert len({weights_fingerprint(each) for each in (clip, pooled)}) == 2


def test_weights_in_the_hub_s_cache_are_found_by_their_revision(
    tmp_path, crops, monkeypatch
) -> None:
    cache = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    with pytest.raises(MissingPublished, match=r"revision abc123\n.*missing: all of it"):
        build(None)
    snapshot = cache / "models--openai--tiny" / "snapshots" / "abc123"
    snapshot.mkdir(parents=True)
    (cache / "models--openai--tiny" / "refs").mkdir()
    save(snapshot)
    torch.testing.assert_close(build(None).patch_tokens(crops), build(snapshot).patch_tokens(crops))


def test_broken_and_other_weights_are_refused(tmp_path) -> None:
    save(tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    with pytest.raises(ValueError, match=r"cannot be read as a CLIPVisionModel .* fetch it again"):
        build(tmp_path)
    weights.write_bytes(b"version https://git-lfs.github.com/spec/v1\nsize 1710540580\n")
    with pytest.raises(ValueError, match=r": model\.safetensors \(Git LFS pointers instead of"):
        build(tmp_path)
    from safetensors.torch import save_file

    save_file({"something": torch.zeros(1)}, weights)
    with pytest.raises(ValueError, match=r"not those of a CLIPVisionModel: \d+ are missing"):
        build(tmp_path)
    weights.write_bytes(whole)
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5]}')
    with pytest.raises(ValueError, match=r"preprocessor_config\.json has no image_mean and"):
        build(tmp_path)
    with pytest.raises(ValueError, match=r"clip\.tokens=all: choose one of penultimate, last"):
        build(tmp_path, tokens="all")


@pytest.mark.parametrize("choice", ["vit_l14", "vit_h14"])
def test_the_choices_name_what_they_need(choice, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    config = OmegaConf.load(CONF / f"{choice}.yaml")
    with pytest.raises(
        Exception, match=rf"hf download {config.weights.repository} .*{config.weights.revision}"
    ):
        instantiate(config)
