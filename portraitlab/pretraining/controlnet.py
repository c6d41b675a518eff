"""Train the world's ControlNet for faces: a drawing and tokens of a person, on the frozen UNet.

python -m portraitlab.pretraining.controlnet --minutes 220

What HiFi-Net starts from, whatever fusion and cond are compared: of the three drawings each is
seen, and none, and the tokens come from numbers that no encoder gives (traits). HiFi-Portrait
starts from SDXL and takes 800,000 steps; FPGA (Sec. 4.1) trains its ControlNet in stages too,
landmarks first.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from portraitlab.diffusion.backbone import Backbone
from portraitlab.diffusion.precision import cast_once
from portraitlab.method.cond.base import Cond
from portraitlab.method.cond.keypoints import KeypointCond
from portraitlab.method.cond.landmarks import LandmarkCond
from portraitlab.method.cond.landmarks5 import FiveLandmarkCond
from portraitlab.method.net.hifi_net import HiFiNet
from portraitlab.method.objective.identity import IdentityLoss
from portraitlab.method.objective.weighted import draw_timesteps
from portraitlab.pretraining.faces import embed_faces
from portraitlab.pretraining.loop import Budget, budget_arguments, train
from portraitlab.pretraining.photos import TrainingPhotos, load_photos, load_traits
from portraitlab.pretraining.samples import beside, sample, save_sheet
from portraitlab.pretraining.ship import ship
from portraitlab.pretraining.text_to_image import person_weights
from portraitlab.types import Condition, FaceGeometry, Injection, TextFeatures
from portraitlab.world.models.controlnet import CONFIG, TraitTokens, grow_from
from portraitlab.world.pretrained import (
    load_backbone,
    load_controlnet,
    load_face_model,
    load_recogniser,
    load_regressor,
)
from portraitlab.world.traits import TRAITS_SIZE

BATCH = 16
DRAWN: tuple[Callable[[], Cond], ...] = (
    lambda: LandmarkCond(load_face_model()),
    KeypointCond,
    FiveLandmarkCond,
)
DRAWN_SHARES = (0.55, 0.15, 0.15, 0.15)
"""Of the batches: how many have each of DRAWN, and no drawing."""
DESCRIBED = 0.1
"""Share of batches in which the net reads a description as text, as it does with fusion=none."""
PROMPTS_DROPPED = 0.1
TIMESTEP_POWER = 0.35
"""t = 1000 · u^0.35: mostly high noise, where a face's layout and build are settled."""
AVERAGE = 0.999
READS_TOKENS = re.compile(r"attn2\.to_[kv]\.")
"""Names of the weights that make keys and values of tokens."""
RECOGNISED, RECOGNISED_FROM, RECOGNISED_WEIGHT = 6, 450, 1.0
"""The recogniser looks at what at most 6 samples of a batch imply, at noise levels from 450: below
it the photo shows through. Its distance (eq. 7) counts as much as the error of the velocity."""


class DrawnPerson(nn.Module):
    """HiFi-Net under training, with and without a drawing, and the tokens it learns from."""

    def __init__(self, backbone: Backbone, from_shipped: bool = False) -> None:
        """from_shipped: begin with the package's weights, but for those that read tokens.

        What made the tokens those weights were trained on is not in the package.
        """
        super().__init__()
        start = grow_from(backbone.unet)
        if from_shipped:
            shipped = load_controlnet().state_dict()
            own = start.state_dict()
            fresh = {name: value for name, value in own.items() if READS_TOKENS.search(name)}
            start.load_state_dict(shipped | fresh)
        self.net = HiFiNet(backbone, True, True, reads_noise=False, noise_gate=1.0, start=start)
        self.traits = TraitTokens(TRAITS_SIZE, backbone.text_dim)


class EncodedPhotos:
    """What the frozen models say of photos, each asked when it is first needed.

    Latents of a photo and of what is drawn of its face, and the recogniser's embedding of it.
    """

    def __init__(self, backbone: Backbone, photos: TrainingPhotos, device: str) -> None:
        self.backbone, self.photos, self.device = backbone, photos, torch.device(device)
        self.regressor = load_regressor().to(device)
        self.conds = [cond().to(device) for cond in DRAWN]
        size = backbone.latent_size
        rows = (1 + len(self.conds), len(photos))
        self.stored = torch.zeros(*rows, backbone.latent_channels, size, size, dtype=torch.half)
        self.known = torch.zeros(rows, dtype=torch.bool)
        self.recogniser = load_recogniser("recogniser").to(device)
        self.embeddings = torch.zeros(len(photos), self.recogniser.global_dim)
        self.embedded = torch.zeros(len(photos), dtype=torch.bool)

    def latents(self, index: Tensor) -> Tensor:
        """Latents [B, c, h, w] of photos `index` [B]."""
        return self._read(0, index)

    def drawn(self, cond: int, index: Tensor) -> Tensor:
        """Latents [B, c, h, w] of what the cond-th of DRAWN draws of their faces."""
        return self._read(1 + cond, index)

    @torch.no_grad()
    def identity(self, index: Tensor) -> Tensor:
        """The recogniser's embeddings [B, d] of photos `index`, of unit length."""
        new = index[~self.embedded[index]].unique()
        if len(new):
            images = self.photos.pixels(new).to(self.device)
            with torch.autocast(self.device.type, enabled=False):
                self.embeddings[new] = embed_faces(images, self.regressor, self.recogniser).cpu()
            self.embedded[new] = True
        return self.embeddings[index].to(self.device)

    @torch.no_grad()
    def _read(self, row: int, index: Tensor) -> Tensor:
        new = index[~self.known[row, index]].unique()
        if len(new):
            images = self.photos.pixels(new).to(self.device)
            with torch.autocast(self.device.type, enabled=False):
                if row > 0:
                    images = draw(self.conds[row - 1], self.regressor(images), images.shape[-1])
                self.stored[row, new] = self.backbone.encode(images).half().cpu()
            self.known[row, new] = True
        return self.stored[row, index].float().to(self.device)


def draw(cond: Cond, geometry: FaceGeometry, size: int) -> Tensor:
    """What a cond draws of faces, each with its own shape [B, 3, size, size]."""
    return cond(geometry, geometry, size)


class Lesson:
    """What a step teaches: the loss of drawing photos' people from their traits and landmarks.

    photos: P of them; traits: [P, TRAITS_SIZE], of who is on each. device: where the model is.
    """

    def __init__(
        self, backbone: Backbone, photos: TrainingPhotos, traits: Tensor, device: str
    ) -> None:
        self.backbone, self.traits = backbone, traits
        self.encoded = EncodedPhotos(backbone, photos, device)
        self.captions = backbone.tokenizer(photos.captions)
        self.descriptions = backbone.tokenizer(photos.descriptions)
        self.empty = backbone.tokenizer([""])
        self.silence = self._text(self.empty)
        self.weights = person_weights(photos, backbone.latent_size)
        self.odds = torch.tensor(DRAWN_SHARES)
        self.recognised = IdentityLoss(self.encoded.recogniser, self.encoded.regressor)

    def __call__(self, model: DrawnPerson, generator: torch.Generator) -> dict[str, Tensor]:
        """The terms of one batch, which with all its noise is drawn from the generator alone."""
        backbone, encoded = self.backbone, self.encoded
        index = torch.randint(len(self.traits), (BATCH,), generator=generator)
        cond = int(torch.multinomial(self.odds, 1, generator=generator))
        described = bool(torch.rand((), generator=generator) < DESCRIBED) and cond < len(DRAWN)
        dropped = torch.rand(BATCH, 1, generator=generator) < PROMPTS_DROPPED
        clean = encoded.latents(index)
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        timesteps = draw_timesteps(BATCH, backbone.timesteps, TIMESTEP_POWER, generator)
        timesteps = timesteps.to(clean.device)
        condition = Condition(
            text=self._text(self.descriptions[index]) if described else self.silence,
            tokens=None if described else model.traits(self.traits[index].to(clean), generator),
            drawing=encoded.drawn(cond, index) if cond < len(DRAWN) else None,
        )
        noisy = backbone.add_noise(clean, noise, timesteps)
        prompts = self._text(torch.where(dropped, self.empty, self.captions[index]))
        injection = model.net(noisy, timesteps, condition)
        predicted = backbone.predict(noisy, timesteps, prompts, injection).float()
        error = (predicted - backbone.training_target(clean, noise, timesteps)).square()
        weight = self.weights[index].to(clean)
        terms = {"velocity": (weight * error).sum() / weight.sum() / error.shape[1]}
        chosen = (timesteps >= RECOGNISED_FROM).nonzero().flatten()[:RECOGNISED]
        if len(chosen) and not described:  # words leave open who it is
            implied = backbone.clean_estimate(noisy[chosen], predicted[chosen], timesteps[chosen])
            asked = encoded.identity(index[chosen.cpu()])
            distance = self.recognised.loss(backbone.decode(implied), asked)
            terms["identity"] = RECOGNISED_WEIGHT * distance
        return terms

    @torch.no_grad()
    def _text(self, tokens: Tensor) -> TextFeatures:
        encoder = self.backbone.text_encoder
        return TextFeatures(encoder(input_ids=tokens.to(self.encoded.device)).last_hidden_state)


def main() -> None:
    """Run the command."""
    budget = budget_arguments(__doc__.splitlines()[0], minutes=220)
    people, shots = 7000, 6
    photos = load_photos("foundation", people, shots, budget.cache, budget.workers)
    traits = load_traits("foundation", people, shots)
    torch.manual_seed(budget.seed)
    backbone = load_backbone().to(budget.device)
    lesson = Lesson(backbone, photos, traits, budget.device)
    model = DrawnPerson(backbone, budget.from_shipped)
    with cast_once(backbone.unet, "bf16-mixed" if budget.half else "32-true"):
        trained = train("controlnet", model, lesson, budget, 8e-4, average=AVERAGE)
    quality = measure(trained.model, backbone.to("cpu"), budget)
    record = trained.record | quality
    ship("controlnet", trained.model.net.controlnet, CONFIG, record, script="controlnet")


@torch.no_grad()
def measure(
    model: DrawnPerson, backbone: Backbone, budget: Budget, people: int = 300
) -> dict[str, float]:
    """What is drawn of people held out, from their traits and the landmarks of one photo.

    likeness: the judge's mean cosine to another photo of the person; landmark_error_px: between the
    landmarks found in what is drawn and those that were asked for, in pixels of 64. people: how
    many are drawn, a multiple of ten, as the sheet has ten in a row.
    """
    shots = 8
    check = load_photos("foundation_check", people, shots, budget.cache, budget.workers)
    traits = load_traits("foundation_check", people, shots)
    regressor, judge = load_regressor(), load_recogniser("judge")
    face_model, index = load_face_model(), torch.arange(people) * shots

    drawn, errors = [], []
    for part in index.split(50):
        seen = regressor(check.pixels(part))
        images = draw(LandmarkCond(face_model), seen, backbone.image_size)
        prompts = [check.captions[photo] for photo in part.tolist()]
        deal = torch.Generator().manual_seed(int(part[0]))
        condition = Condition(
            backbone.encode_text(prompts),
            model.traits(traits[part], deal),
            backbone.encode(images),
        )
        steer = partial(_steer, model.net, condition)
        drawn.append(sample(backbone, prompts, seed=int(part[0]), steer=steer))
        found, asked = regressor(drawn[-1]).coefficients, seen.coefficients
        assert found is not None
        assert asked is not None
        distance = face_model.landmarks(found) - face_model.landmarks(asked)
        errors.append(distance.norm(dim=-1).mean() * backbone.image_size)
    images = torch.cat(drawn)
    save_sheet(beside(images[:30], check.pixels(index[:30])), budget.work / "controlnet.png")
    mine, theirs = (
        embed_faces(shown, regressor, judge) for shown in (images, check.pixels(index + shots // 2))
    )
    likeness = (mine * theirs).sum(-1).mean()
    return {
        "likeness": round(float(likeness), 3),
        "landmark_error_px": round(float(torch.stack(errors).mean()), 3),
    }


def _steer(net: HiFiNet, condition: Condition, latents: Tensor, timesteps: Tensor) -> Injection:
    return net(latents, timesteps, condition)


if __name__ == "__main__":
    main()
