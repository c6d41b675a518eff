"""Progressive inference: noise on the face, sampled again as the person, person after person."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny import make_batch
from torch import Tensor, nn

from portraitlab.method.cond.style import StyleCond
from portraitlab.method.edit.inpaint import Inpaint
from portraitlab.method.edit.progressive import Progressive
from portraitlab.method.edit.restoration import FaceRestoration
from portraitlab.method.fusion.none import NoFusion
from portraitlab.method.model import PortraitModel
from portraitlab.method.net.in_context import InContext
from portraitlab.method.sampler.ddim import DDIM
from portraitlab.method.transform.side_by_side import SideBySide


def slow_progressive(model, crops, condition, mask, steps, strengths, seed) -> Tensor:
    """Sec. 3.3's rounds: noise the latents, then denoise them; outside, keep the crop's."""
    backbone, draw = model.backbone, torch.Generator().manual_seed(seed)
    alphas = backbone.scheduler.alphas_cumprod
    levels = [round(1000 * (index + 1) / steps) - 1 for index in range(steps)]
    clean = backbone.encode(crops)
    inside = torch.nn.functional.interpolate(mask, size=clean.shape[-2:], mode="area")
    latents = clean

    def noised(latents: Tensor, noise: Tensor, level: int) -> Tensor:
        alpha = alphas[level] if level >= 0 else torch.tensor(1.0)
        return alpha.sqrt() * latents + (1 - alpha).sqrt() * noise

    for strength in strengths:
        noise = torch.randn(clean.shape[1:], generator=draw).expand_as(clean)
        first = round(strength * steps)  # levels with less noise than that remain
        latents = noised(latents, noise, levels[first - 1])
        for t in reversed(range(first)):
            below = levels[t - 1] if t else -1
            velocity = model.predict(latents, torch.full((len(latents),), levels[t]), condition)
            a, b = alphas[levels[t]].sqrt(), (1 - alphas[levels[t]]).sqrt()
            face, found = a * latents - b * velocity, b * latents + a * velocity
            stepped = noised(face, found, below)
            latents = inside * stepped + (1 - inside) * noised(clean, noise, below)
    return backbone.decode(latents)


@pytest.fixture
def crops() -> Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2)) * 2 - 1


@pytest.fixture
def masks() -> Tensor:
    soft = torch.zeros(2, 1, 32, 32)
    soft[..., 8:24, 10:22] = 1
    soft[..., 8:24, 8:10] = 0.5
    return soft


def test_its_rounds_are_those_of_the_paper(of_faces, model, crops, masks) -> None:
    condition = model.condition(make_batch(batch=2))
    edit = Progressive(strengths=[0.75, 0.5, 0.25], **of_faces, steps=4, guidance=1.0, seed=3)
    with torch.no_grad():
        fast = edit.restore(model, crops, condition, masks)
        slow = slow_progressive(model, crops, condition, masks, 4, [0.75, 0.5, 0.25], 3)
    torch.testing.assert_close(fast, slow, atol=1e-4, rtol=1e-4)


def test_from_noise_it_is_inpainting(of_faces, model, encoder, pictures, faces) -> None:
    settings = {**of_faces, "steps": 2, "guidance": 2.0}
    one_each = faces[[0, 2]]
    one = Progressive(strengths=[1], **settings)(model, encoder, pictures, one_each)
    other = Inpaint(**settings)(model, encoder, pictures, one_each)
    assert all(torch.equal(*pair) for pair in zip(one.pictures, other.pictures, strict=True))


def test_less_noise_keeps_more_of_the_face(of_faces, model, crops, masks, monkeypatch) -> None:
    """With the best denoiser of white latents, whose velocity is 0."""
    condition = model.condition(make_batch(batch=2))
    monkeypatch.setattr(model, "predict", lambda noisy, *given: torch.zeros_like(noisy))
    clean = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(8))
    monkeypatch.setattr(model.backbone, "encode", lambda crops: clean)
    monkeypatch.setattr(model.backbone, "decode", lambda latents: latents)
    kept = []
    for strength in (0.25, 0.5, 0.75, 1.0):
        edit = Progressive(strengths=[strength], **of_faces, steps=4, guidance=1.0)
        with torch.no_grad():
            latents = edit.restore(model, crops, condition, masks)
        face = torch.stack([latents, clean])[..., 5:11, 6:10]
        kept.append(float(torch.corrcoef(face.flatten(1))[0, 1]))
    assert kept[0] > kept[1] > kept[2] > kept[3]
    signal = model.backbone.scheduler.alphas_cumprod[[249, 499, 749, 999]].sqrt()
    assert kept == pytest.approx(signal.tolist(), abs=0.15)


class Greyer(FaceRestoration):
    """Paint every crop in its mean and a little more, and record it."""

    in_turn = True

    def __init__(self, **settings) -> None:
        super().__init__(**settings)
        self.crops: list[Tensor] = []
        self.batches: list[int] = []

    def restore(self, model, crops, condition, masks, beside=None) -> Tensor:
        self.crops += [*crops]
        self.batches.append(len(crops))
        return torch.full_like(crops, float(crops.mean()) + 0.2)


def near_each_other(faces):
    """Two faces of the first picture whose masks overlap."""
    moved = faces[[0, 1]].keypoints.clone()
    moved[1] = moved[0] + torch.tensor([0.12, 0.0])
    return replace(faces[[0, 1]], keypoints=moved)


def test_the_next_person_sees_the_one_before_and_leaves_them(
    of_faces, model, encoder, pictures, faces
) -> None:
    two = near_each_other(faces)
    edit = Greyer(**of_faces)
    edited = edit(model, encoder, pictures[:1], two)
    first = Greyer(**of_faces)(model, encoder, pictures[:1], two[[0]])
    second = Greyer(**of_faces)
    second(model, encoder, first.pictures, two[[1]])
    assert torch.equal(edit.crops[1], second.crops[0])
    before, after = first.masks[0] > 0, edited.masks[0] > 0
    assert (after & ~before).any()
    for picture in (edited.pictures[0], first.pictures[0]):
        assert torch.equal(
            picture[before.expand(3, -1, -1)], first.pictures[0][before.expand(3, -1, -1)]
        )
    over = Greyer(**of_faces)
    over.in_turn = False
    written = over(model, encoder, pictures[:1], two).pictures[0]
    assert not torch.equal(
        written[before.expand(3, -1, -1)], first.pictures[0][before.expand(3, -1, -1)]
    )


def test_pictures_share_the_batches_of_a_turn(of_faces, model, encoder, pictures, faces) -> None:
    edit = Greyer(**of_faces)
    calls: list[int] = []
    restore = edit.restore
    edit.restore = lambda model, crops, *rest: (
        calls.append(len(crops)) or restore(model, crops, *rest)
    )
    edit(model, encoder, pictures, faces)  # two faces of the first picture, one of the second
    assert calls == [2, 1]


class Prompt(nn.Module):
    """An image prompt of one word: the image's mean colour, spread to its width."""

    words = 1

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3)).repeat(1, 6)[:, None, :16]


@pytest.fixture
def beside(tiny_backbone) -> PortraitModel:
    """A model that reads a profile beside the crop, whose style is the crop."""
    torch.manual_seed(0)
    backbone = tiny_backbone()
    net = InContext(backbone, True, False, Prompt())
    for parameter in net.starting_at_zero():
        nn.init.normal_(parameter, std=0.2)
    fusion = NoFusion(10, 12, backbone.text_dim)
    return PortraitModel(backbone, fusion, StyleCond(), net, SideBySide()).eval()


def test_beside_a_profile_the_style_is_the_crop(of_faces, beside, encoder, pictures, faces) -> None:
    given = make_batch(batch=3, pictures=True).pictures
    profiles = replace(given, profile=given.profile, style=torch.full_like(given.style, 9.0))
    known = replace(faces, pictures=profiles)
    styles: list[Tensor] = []
    seen: list[Tensor] = []
    sample, predict = beside.cond.sample, beside.predict

    def sampled(pictures) -> Tensor:
        styles.append(pictures.style)
        return sample(pictures)

    def predicted(noisy, timesteps, condition) -> Tensor:
        seen.append(noisy)
        return predict(noisy, timesteps, condition)

    beside.cond.sample, beside.predict = sampled, predicted
    edit = Progressive(strengths=[0.5], **of_faces, steps=4, guidance=1.0)
    edited = edit(beside, encoder, pictures, known)
    assert edited.left == ["", "", ""]
    for style in styles:
        assert -1 <= style.min() < style.max() <= 1
    # The profile's half is noised as the paper's pairs are, and never sampled.
    size = beside.backbone.latent_size
    assert all(each.shape[-2:] == (size, 2 * size) for each in seen)
    scheduler = DDIM(4).scheduler(beside.backbone)
    noise = torch.randn(seen[0].shape[1:], generator=torch.Generator().manual_seed(0))[..., size:]
    first = given.latents[[0]]
    for noisy, timestep in zip(seen[:2], scheduler.timesteps[2:], strict=True):
        expected = beside.backbone.add_noise(first, noise[None], timestep[None])
        torch.testing.assert_close(noisy[:1, ..., size:], expected, atol=1e-4, rtol=1e-4)
    other = replace(known, pictures=replace(profiles, latents=given.latents.flip(0)))
    changed = edit(beside, encoder, pictures, other)
    assert not torch.equal(changed.pictures[0], edited.pictures[0])


def test_without_a_photo_of_the_person_the_remedy_is_named(
    of_faces, beside, encoder, pictures, faces
) -> None:
    with pytest.raises(ValueError, match="task=restore with faces=FOLDER"):
        Progressive(**of_faces, steps=2)(beside, encoder, pictures, faces)


@pytest.mark.parametrize(
    "strengths", [[], [0.5, 0.5], [0.3, 0.6], [1.2, 0.5], [0.5, 0.0], [float("nan")]]
)
def test_strengths_that_do_not_fall_are_refused(of_faces, strengths) -> None:
    with pytest.raises(ValueError, match="falling shares"):
        Progressive(strengths=strengths, **of_faces)
