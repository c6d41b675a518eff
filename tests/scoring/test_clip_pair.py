"""clip_pair=vit_l14 and vit_h14 on a tiny model saved as the published ones are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from publishing import write_clip
from torch.nn import functional
from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

from portraitlab.scoring.clip_pair.vit import ClipPair
from portraitlab.scoring.judge import Judge
from portraitlab.support.hashes import file_digest
from portraitlab.support.hub import MissingPublished, Repository
from portraitlab.tables.composing import composed
from portraitlab.world.pretrained import load_recogniser, load_regressor

FILES = ("config.json", "preprocessor_config.json", "model.safetensors", "vocab.json", "merges.txt")
PROMPTS = ["a photo of a cat", "", "z " * 100]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip")


def build(folder: Path | None) -> ClipPair:
    weights = Repository("openai/tiny", "abc123", FILES, 0.01, "MIT", "judge.clip.folder")
    return ClipPair(weights, folder=None if folder is None else str(folder))


def pictures(size: int) -> torch.Tensor:
    """Whole numbers of 256, as of files."""
    levels = torch.randint(0, 256, (3, 3, size, size), generator=torch.Generator().manual_seed(1))
    return levels.float() / 127.5 - 1


@pytest.mark.parametrize(("size", "tolerance"), [(28, 1e-5), (64, 5e-3)])
def test_pictures_are_embedded_as_by_the_published_processor(folder, size, tolerance) -> None:
    images = pictures(size)
    pixels = ((images + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    processor = CLIPImageProcessor.from_pretrained(folder)
    given = processor([Image.fromarray(one) for one in pixels], return_tensors="pt")
    model = CLIPModel.from_pretrained(folder).eval()
    with torch.no_grad():
        wanted = model.get_image_features(**given).pooler_output
    # Pillow rounds what it resizes to the 256 values of a file.
    torch.testing.assert_close(
        build(folder).image_embedding(images),
        functional.normalize(wanted, dim=-1),
        atol=tolerance,
        rtol=0,
    )


def test_prompts_are_embedded_as_published_and_cut_to_77_tokens(folder) -> None:
    model = CLIPModel.from_pretrained(folder).eval()
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    wanted = []
    with torch.no_grad():
        for prompt in PROMPTS:  # one by one, so that nothing is padded
            given = tokenizer(prompt, truncation=True, max_length=77, return_tensors="pt")
            wanted.append(model.get_text_features(given.input_ids).pooler_output[0])
    found = build(folder).text_embedding(PROMPTS)
    torch.testing.assert_close(found, functional.normalize(torch.stack(wanted), dim=-1))
    assert found.shape == (3, 8)


def test_it_judges(folder) -> None:
    judge = Judge(load_recogniser("judge"), build(folder), load_regressor(), batch_size=2)
    view = judge.view([pictures(64)])
    assert view.face.shape == view.picture.shape == (3, 8)
    torch.testing.assert_close(view.picture, judge.clip.image_embedding(pictures(64)))
    assert torch.equal(view.features, view.picture)
    torch.testing.assert_close(judge.text(PROMPTS), judge.clip.text_embedding(PROMPTS))
    digest = file_digest(folder / "model.safetensors")
    named = f"CLIP (weights {digest[:8]})"
    features = f"{named} picture embeddings; whole image, bicubic to 28 px"
    world = {"recogniser": "the judging recogniser", "regressor": "the regressor"}
    assert judge.titles == {"clip": named, "features": features, **world}
    for threshold in (0, 1, 2.0):
        with pytest.raises(
            ValueError, match=rf"judge\.face_threshold={threshold}: a number above 0 and"
        ):
            Judge(judge.recogniser, judge.clip, judge.regressor, face_threshold=threshold)
    assert not any(parameter.requires_grad for parameter in judge.clip.parameters())


def test_weights_in_the_hub_s_cache_are_named_by_their_repository(
    folder, tmp_path, monkeypatch
) -> None:
    cache = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    snapshot = cache / "models--openai--tiny" / "snapshots" / "abc123"
    (cache / "models--openai--tiny" / "refs").mkdir(parents=True)
    snapshot.parent.mkdir()
    folder.rename(snapshot)
    assert build(None).title == "CLIP (openai/tiny)"


def test_missing_and_damaged_files_are_named(folder) -> None:
    (folder / "vocab.json").rename(folder / "aside")
    with pytest.raises(MissingPublished, match=r"missing in judge\.clip\.folder=.*: vocab\.json"):
        build(folder)
    (folder / "vocab.json").touch()
    with pytest.raises(MissingPublished, match=r": vocab\.json"):  # nothing of it came
        build(folder)
    (folder / "vocab.json").write_text('{"a": ')
    with pytest.raises(ValueError, match=r"tokenizer in .* cannot be read .* Fetch its files ag"):
        build(folder)
    (folder / "aside").rename(folder / "vocab.json")
    seen = folder / "preprocessor_config.json"
    seen.write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5, 0.5, 0]}))
    with pytest.raises(ValueError, match="a deviation that is not above 0"):
        build(folder)
    seen.write_text(json.dumps({"image_mean": [0.5]}))
    with pytest.raises(ValueError, match=r"three channels: .* give another judge\.clip\.folder"):
        build(folder)


@pytest.mark.parametrize("choice", ["vit_l14", "vit_h14"])
def test_the_choices_name_what_they_need(choice: str, folder: Path) -> None:
    config = OmegaConf.create(composed([f"clip_pair={choice}", f"judge.clip.folder={folder}"]))
    for name in config.judge.clip.weights.files:
        assert (folder / name).is_file()
    judge = instantiate(config.judge)
    assert judge.titles["clip"].startswith("CLIP (weights ")
    assert np.isfinite(judge.view([pictures(64)]).picture.numpy()).all()
