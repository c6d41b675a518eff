"""Train what nets start from: to draw people from tokens of their traits, by one way in.

python -m portraitlab.pretraining.starts --which branch --minutes 220

branch: a ControlNet, from which HiFi-Net starts. attention: keys and values of IP-Adapter's
attention. Both are trained on the same people, tokens and control images for the same minutes, so
that rows which compare the two start alike. Tokens are made of traits, which no encoder predicts.
HiFi-Portrait starts from SDXL and takes 800,000 steps; FPGA (Sec. 4.1) trains its ControlNet in
stages too, landmarks first.
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
"""Exponent of t = 1000 · u^0.35: mostly high noise levels, which determine a face's layout."""
AVERAGE = 0.999
RECOGNISED, RECOGNISED_FROM, RECOGNISED_WEIGHT = 6, 450, 1.0
"""Largest number of samples per batch in the identity loss, their least noise level, and the weight
of its distance (eq. 7), equal to that of the velocity's error. The loss is computed on the clean
estimate; below level 450 the photo shows through."""


def choose(reads: Mapping[str, float], generator: torch.Generator) -> tuple[int | None, str]:
    """Choose a batch's control image and condition: "tokens", "words" or "both".

    Each of DRAWN is as likely as no control image (None). Without a control image the net reads
    tokens, because the UNet follows words by itself.
    """
    cond = int(torch.randint(len(DRAWN) + 1, (), generator=generator))
    read = int(torch.multinomial(torch.tensor(list(reads.values())), 1, generator=generator))
    if cond == len(DRAWN):
        return None, "tokens"
    return cond, list(reads)[read]


class StartLoss:
    """The loss of a step: drawing the people of photos from their traits and control images.

    photos: P photos. traits [P, TRAITS_SIZE]: traits of the person on each. device: the model's.
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
        """Compute the loss terms of one batch, which is drawn with the generator alone."""
        # Choose photos, noise, control image and condition.
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

        # Recognise the person in the clean estimate (eq. 7).
        chosen = (timesteps >= RECOGNISED_FROM).nonzero().flatten()[:RECOGNISED]
        if len(chosen) and read != "words":  # words do not determine the person
            implied = backbone.clean_estimate(noisy[chosen], predicted[chosen], timesteps[chosen])
            identity = encoded.identity(index[chosen.cpu()])
            distance = self.recognised.loss(backbone.decode(implied), identity)
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
    lesson = StartLoss(backbone, photos, traits, budget.device)
    if which == Branch.name:
        model: WayIn = Branch(backbone, budget.from_shipped)
    else:
        # All its weights read tokens, and the embeddings that made those are not shipped.
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
    """Measure images of held-out people, drawn from their traits and the landmarks of one photo.

    likeness: the judge's mean cosine to another photo of the person. landmark_error_px: distance
    between the landmarks of the drawn image and the requested ones, in pixels of 64. people: number
    of people to draw, a multiple of ten, because the sheet has ten in a row.
    """
    # Rebuild the net, because the moving average's attention is not installed in the UNet.
    weights, model = model.state_dict(), WAYS[model.name](backbone)
    model.load_state_dict(weights)
    shots = 8
    check = load_photos("foundation_check", people, shots, budget.cache, budget.workers)
    traits = load_traits("foundation_check", people, shots)
    regressor, judge = load_regressor(), load_recogniser("judge")
    face_model, index = load_face_model(), torch.arange(people) * shots

    # Draw each person, and compare the landmarks.
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
        found, requested = regressor(drawn[-1]).coefficients, seen.coefficients
        assert found is not None
        assert requested is not None
        distance = face_model.landmarks(found) - face_model.landmarks(requested)
        errors.append(distance.norm(dim=-1).mean() * backbone.image_size)

    # Save a sheet, and compare the identities.
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
