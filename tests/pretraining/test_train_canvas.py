"""The larger canvas's text-to-image model: how it grows, and what it is trained on."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from portraitlab.pretraining import canvas, ship
from portraitlab.pretraining.canvas import (
    BACKGROUND_WEIGHT,
    FACE_WEIGHT,
    CanvasLoss,
    LatentScenes,
    canvas_backbone,
    cell_weights,
    counted_right,
    measure,
    prepare,
)
from portraitlab.pretraining.loop import Budget
from portraitlab.pretraining.scenes import SceneStream, render_scenes
from portraitlab.pretraining.window import Window
from portraitlab.types import Injection, TextFeatures
from portraitlab.world import pretrained as foundation
from portraitlab.world.models.detector import HeatMapDetector
from portraitlab.world.models.text_to_image import (
    CANVAS_CONFIG,
    PROMPT_LENGTH,
    CanvasTextToImage,
    TextToImage,
    grow_canvas,
)
from portraitlab.world.pretrained import (
    entry,
    load_canvas_backbone,
    load_clip,
    load_image_prompt,
    load_weights,
)
from portraitlab.world.tokenizer import CANVAS_VOCABULARY, WordTokenizer


@pytest.fixture(scope="module")
def portrait() -> TextToImage:
    model = TextToImage(entry("text_to_image")["config"])
    load_weights("text_to_image", model)
    return model


@pytest.fixture(scope="module")
def window(portrait: TextToImage) -> Iterator[Window[LatentScenes]]:
    made = partial(prepare, canvas_backbone(grow_canvas(portrait), "cpu"), load_clip())
    stream = SceneStream("foundation_check", made, size=4)
    yield Window(stream, length=1, steps=100)
    stream.close()


def test_a_grown_model_draws_as_the_portraits_do(portrait: TextToImage) -> None:
    grown = grow_canvas(portrait)
    captions = ["a photo of a person in a red dress, a blue plain background, soft light"]
    noisy, levels = torch.randn(1, 4, 16, 16), torch.tensor([700])
    with torch.no_grad():
        old = portrait(noisy, levels, WordTokenizer(PROMPT_LENGTH)(captions))
        new = grown(noisy, levels, WordTokenizer(PROMPT_LENGTH, CANVAS_VOCABULARY)(captions))
    torch.testing.assert_close(old, new)
    assert grown.unet.config.sample_size == 32


def test_captions_of_scenes_are_words_that_the_model_knows_and_fit() -> None:
    tokenizer = WordTokenizer(PROMPT_LENGTH, CANVAS_VOCABULARY)
    captions = render_scenes("foundation_check", 0, 24).captions
    assert not any(tokenizer.cut(caption) for caption in captions)
    assert not (tokenizer(captions) == 2).any()  # unknown
    assert any("group of" in caption for caption in captions)


def test_an_error_counts_by_what_a_cell_shows() -> None:
    scenes = render_scenes("foundation_check", 0, 6)
    weights = cell_weights(scenes, 32)
    assert weights.shape == (6, 1, 32, 32)
    assert weights.min() == pytest.approx(BACKGROUND_WEIGHT)
    assert weights.max() == pytest.approx(FACE_WEIGHT, abs=0.5)
    of_faces = torch.from_numpy(scenes.face_masks).unfold(1, 4, 4).unfold(2, 4, 4).flatten(3).all(3)
    torch.testing.assert_close(
        weights[:, 0][of_faces], torch.full((int(of_faces.sum()),), FACE_WEIGHT)
    )


def test_it_learns_from_texts_and_from_images(
    portrait: TextToImage, window: Window[LatentScenes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canvas, "BATCH", 2)
    torch.manual_seed(0)
    model = grow_canvas(portrait)
    lesson = CanvasLoss(canvas_backbone(model, "cpu"), window, Budget(1, Path(), Path()))
    model.requires_grad_(True)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-4)
    for kind, share in (("by_text", 0.0), ("by_image", 1.0)):
        monkeypatch.setattr(canvas, "IMAGE_PROMPTS", share)
        losses = []
        for _ in range(4):
            loss = lesson(model, torch.Generator().manual_seed(0))[kind]
            optimiser.zero_grad()
            loss.backward()
            losses.append(float(loss.detach()))
            read = model.image_prompt.image_embeds.weight.grad
            assert (read is not None and bool(read.any())) == (kind == "by_image")
            optimiser.step()
        assert losses[-1] < losses[0]


def test_it_is_measured_by_texts_and_by_images(
    portrait: TextToImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canvas, "SHOWN", 10)
    monkeypatch.setattr(canvas, "sample", partial(canvas.sample, steps=2))
    check = render_scenes("foundation_check", 0, 20)
    model: CanvasTextToImage = grow_canvas(portrait).eval()
    figures = measure(model, check, load_clip(), None, Budget(1, tmp_path, tmp_path))
    assert "people_counted" not in figures
    assert figures["fid_of_round_trips"] < figures["fid"]
    assert -1 <= figures["image_followed"] <= 1
    assert (tmp_path / "canvas.png").is_file()
    assert (tmp_path / "canvas_by_image.png").is_file()


def test_what_is_shipped_reads_texts_and_images(
    portrait: TextToImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = grow_canvas(portrait).half().float().eval()
    for name in ("foundation.json", "autoencoder.safetensors"):
        (tmp_path / name).write_bytes((foundation.WEIGHTS / name).read_bytes())
    monkeypatch.setattr(ship, "WEIGHTS", tmp_path)
    scales = {"latent_scale": [1.0] * 4, "latent_shift": [0.0] * 4}
    ship.ship("canvas", model, CANVAS_CONFIG, {"minutes": 1.0}, script="canvas", **scales)
    assert (tmp_path / "canvas.safetensors").stat().st_size < 15e6
    backbone = load_canvas_backbone(tmp_path)
    assert backbone.latent_size == 32
    assert backbone.image_size == 128
    noisy, level = torch.randn(1, 4, 32, 32), torch.tensor([500])
    captions, image = ["a photo of a group of two full body"], torch.rand(1, 3, 128, 128) * 2 - 1
    prompt = load_image_prompt(tmp_path)
    read = backbone.encode_text(captions), TextFeatures(prompt(image))
    assert read[1].words.shape == (1, prompt.words, backbone.text_dim)
    by_text, by_image = (backbone.predict(noisy, level, text, Injection()) for text in read)
    with torch.no_grad():
        torch.testing.assert_close(by_text, model(noisy, level, backbone.tokenizer(captions)))
        embedded = load_clip().image_embedding(image)
        torch.testing.assert_close(by_image, model(noisy, level, images=embedded))


def test_people_are_counted_by_their_faces() -> None:
    detector = HeatMapDetector().eval()  # untrained, it finds nobody
    images = render_scenes("foundation_check", 0, 3).pixels()
    assert counted_right(detector, images, np.array([0, 0, 0])) == 1
    assert counted_right(detector, images, np.array([0, 2, 1])) == pytest.approx(0.333)
