"""Train what nets start from: to draw people from tokens of their traits, by one way in.

python -m portraitlab.pretraining.starts --which branch --minutes 220

branch: a ControlNet, from which HiFi-Net starts. attention: keys and values of IP-Adapter's
attention. Both see the same people, tokens and drawings for the same minutes, so that rows which
compare ways in start alike. Tokens come from numbers that no encoder gives (traits). HiFi-Portrait
starts from SDXL and takes 800,000 steps; FPGA (Sec. 4.1) trains its ControlNet in stages too,
landmarks first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from portraitlab.diffusion.backbone import Backbone
from portraitlab.diffusion.precisions import cast_once
from portraitlab.method.cond.landmarks import LandmarkCond
from portraitlab.method.net.base import Net
from portraitlab.method.objective.identity import IdentityLoss
from portraitlab.method.objective.weighted import draw_timesteps
from portraitlab.pretraining.encoded_photos import DRAWN, EncodedPhotos, draw
from portraitlab.pretraining.faces import embed_faces
from portraitlab.pretraining.loop import Budget, budget_arguments, take_which, train
from portraitlab.pretraining.photos import TrainingPhotos, load_photos, load_traits
from portraitlab.pretraining.samples import beside, sample, save_sheet
from portraitlab.pretraining.ship import ship
from portraitlab.pretraining.text_to_image import person_weights
from portraitlab.pretraining.ways_in import WAYS, Branch, WayIn
from portraitlab.types import Condition, Injection, TextFeatures
from portraitlab.world.models.controlnet import CONFIG
from portraitlab.world.pretrained import (
    load_backbone,
    load_face_model,
    load_recogniser,
    load_regressor,
)

BATCH = 16
PROMPTS_DROPPED = 0.1
TIMESTEP_POWER = 0.35
"""t = 1000 · u^0.35: mostly high noise, where a face's layout and build are settled."""
AVERAGE = 0.999
RECOGNISED, RECOGNISED_FROM, RECOGNISED_WEIGHT = 6, 450, 1.0
"""The recogniser looks at what at most 6 samples of a batch imply, at noise levels from 450: below
it the photo shows through. Its distance (eq. 7) counts as much as the error of the velocity."""


def choose(reads: Mapping[str, float], generator: torch.Generator) -> tuple[int | None, str]:
    """Choose a batch's drawing, each of DRAWN as often as none (None), and what the net reads.

    Without a drawing it reads tokens: what words say, the UNet knows by itself.
    """
    cond = int(torch.randint(len(DRAWN) + 1, (), generator=generator))
    read = int(torch.multinomial(torch.tensor(list(reads.values())), 1, generator=generator))
    if cond == len(DRAWN):
        return None, "tokens"
    return cond, list(reads)[read]


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
        self.weights = person_weights(photos, backbone.latent_size)
        self.recognised = IdentityLoss(self.encoded.recogniser, self.encoded.regressor)

    def __call__(self, model: WayIn, generator: torch.Generator) -> dict[str, Tensor]:
        """The terms of one batch, which with all its noise is drawn from the generator alone."""
        # Choose photos, noise, drawing and reading.
        backbone, encoded = self.backbone, self.encoded
        index = torch.randint(len(self.traits), (BATCH,), generator=generator)
        cond, read = choose(model.reads, generator)
        dropped = torch.rand(BATCH, 1, generator=generator) < PROMPTS_DROPPED
        clean = encoded.latents(index)
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        timesteps = draw_timesteps(BATCH, backbone.timesteps, TIMESTEP_POWER, generator)
        timesteps = timesteps.to(clean.device)

        # Predict the velocity.
        prompts = self._text(torch.where(dropped, self.empty, self.captions[index]))
        condition = model.condition(
            prompts,
            None if read == "words" else model.traits(self.traits[index].to(clean), generator),
            None if read == "tokens" else self._text(self.descriptions[index]),
            None if cond is None else encoded.drawn(cond, index),
        )
        noisy = backbone.add_noise(clean, noise, timesteps)
        injection = model.net(noisy, timesteps, condition)
        predicted = backbone.predict(noisy, timesteps, prompts, injection).float()
        error = (predicted - backbone.training_target(clean, noise, timesteps)).square()
        weight = self.weights[index].to(clean)
        terms = {"velocity": (weight * error).sum() / weight.sum() / error.shape[1]}

        # Recognise the person in what it implies.
        chosen = (timesteps >= RECOGNISED_FROM).nonzero().flatten()[:RECOGNISED]
        if len(chosen) and read != "words":  # words leave open who it is
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
    which = take_which(tuple(WAYS))
    budget = budget_arguments(__doc__.splitlines()[0], minutes=220)
    people, shots = 7000, 6
    photos = load_photos("foundation", people, shots, budget.cache, budget.workers)
    traits = load_traits("foundation", people, shots)
    torch.manual_seed(budget.seed)
    backbone = load_backbone().to(budget.device)
    lesson = Lesson(backbone, photos, traits, budget.device)
    if which == Branch.name:
        model: WayIn = Branch(backbone, budget.from_shipped)
    else:
        # All its weights read tokens, and what made those is not in the package.
        budget = replace(budget, from_shipped=False)
        model = WAYS[which](backbone)
    with cast_once(backbone.unet, "bf16-mixed" if budget.half else "32-true"):
        trained = train(model.weights, model, lesson, budget, 8e-4, average=AVERAGE)
    record = trained.record | measure(trained.model, backbone.to("cpu"), budget)
    config = CONFIG if model.name == Branch.name else {}
    script = f"starts --which {model.name}"
    ship(model.weights, trained.model.start(), config, record, script=script)


@torch.no_grad()
def measure(
    model: WayIn, backbone: Backbone, budget: Budget, people: int = 300
) -> dict[str, float]:
    """What is drawn of people held out, from their traits and the landmarks of one photo.

    likeness: the judge's mean cosine to another photo of the person; landmark_error_px: between the
    landmarks found in what is drawn and those that were asked for, in pixels of 64. people: how
    many are drawn, a multiple of ten, as the sheet has ten in a row.
    """
    # An average's attention is not the one that the UNet asks: build the net again.
    weights, model = model.state_dict(), WAYS[model.name](backbone)
    model.load_state_dict(weights)
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
        tokens = model.traits(traits[part], deal)
        text = backbone.encode_text(prompts)
        condition = model.condition(text, tokens, None, backbone.encode(images))
        steer = partial(_steer, model.net, condition)
        drawn.append(sample(backbone, prompts, seed=int(part[0]), steer=steer))
        found, asked = regressor(drawn[-1]).coefficients, seen.coefficients
        assert found is not None
        assert asked is not None
        distance = face_model.landmarks(found) - face_model.landmarks(asked)
        errors.append(distance.norm(dim=-1).mean() * backbone.image_size)
    images = torch.cat(drawn)
    save_sheet(beside(images[:30], check.pixels(index[:30])), budget.work / f"{model.weights}.png")
    mine, theirs = (
        embed_faces(shown, regressor, judge) for shown in (images, check.pixels(index + shots // 2))
    )
    likeness = (mine * theirs).sum(-1).mean()
    return {
        "likeness": round(float(likeness), 3),
        "landmark_error_px": round(float(torch.stack(errors).mean()), 3),
    }


def _steer(net: Net, condition: Condition, latents: Tensor, timesteps: Tensor) -> Injection:
    return net(latents, timesteps, condition)


if __name__ == "__main__":
    main()
