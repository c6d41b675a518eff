"""Train the larger canvas's text-to-image model, which begins as the portraits'.

python -m portraitlab.pretraining.canvas --minutes 92

It is trained on portraits, half bodies, full bodies and groups of two to four at 128 px, 32 x 32
latents. In a share of the steps the UNet is conditioned on CLIP's embedding of the image in place
of the text.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from portraitlab.diffusion.backbone import Backbone
from portraitlab.pretraining.frechet import frechet, statistics
from portraitlab.pretraining.loop import Budget, budget_arguments, step_of, train
from portraitlab.pretraining.samples import beside, sample, save_sheet
from portraitlab.pretraining.scenes import (
    BODIES_AND_PORTRAITS,
    CHUNKS,
    Scenes,
    SceneStream,
    render_scenes,
)
from portraitlab.pretraining.ship import begin, ship
from portraitlab.pretraining.window import Window
from portraitlab.types import TensorRecord, TextFeatures
from portraitlab.world.models.clip import ClipEncoder
from portraitlab.world.models.detector import HeatMapDetector
from portraitlab.world.models.text_to_image import (
    CANVAS_CONFIG,
    PROMPT_LENGTH,
    CanvasTextToImage,
    TextToImage,
    grow_canvas,
    make_scheduler,
)
from portraitlab.world.pretrained import (
    MissingWeights,
    entry,
    load_autoencoder,
    load_clip,
    load_detector,
    load_weights,
)
from portraitlab.world.tokenizer import CANVAS_VOCABULARY, WordTokenizer

BATCH = 16
STEPS = 128
"""Steps between one chunk of scenes and the next: each scene is used about eight times."""
IMAGE_PROMPTS = 0.25
"""Share of steps in which the UNet is conditioned on an image in place of a text."""
PROMPTS_DROPPED = 0.1
BACKGROUND_WEIGHT, FACE_WEIGHT = 0.3, 3.0
"""Weights of errors on the background and on a face; an error on a body has weight 1."""
AVERAGE = 0.999
SHOWN = 20
"""Number of samples on a sheet, a multiple of ten."""


@dataclass(frozen=True)
class LatentScenes(TensorRecord):
    """Encoded scenes that the UNet is trained on.

    latents [S, 4, 32, 32] fp16, scaled. weight [S, 1, 32, 32] fp16: weight of errors. captions
    [S, K]: token numbers. images [S, 96]: CLIP's embeddings of the scenes.
    """

    latents: Tensor
    weight: Tensor
    captions: Tensor
    images: Tensor


@torch.no_grad()
def prepare(backbone: Backbone, clip: ClipEncoder, scenes: Scenes) -> LatentScenes:
    """Encode scenes with the frozen models."""
    device = backbone.latent_scale.device
    latents, images = [], []
    for part in scenes.pixels().split(32):
        latents.append(backbone.encode(part.to(device)).half().cpu())
        images.append(clip.image_embedding(part.to(device)).cpu())
    return LatentScenes(
        torch.cat(latents),
        cell_weights(scenes, backbone.latent_size).half(),
        backbone.tokenizer(scenes.captions),
        torch.cat(images),
    )


def cell_weights(scenes: Scenes, size: int) -> Tensor:
    """Return the weight of errors in each latent cell [S, 1, size, size], by its main content."""
    # Pixels on a face's rim may be mostly background, and then are not in the person mask.
    person, face = (
        functional.adaptive_avg_pool2d(torch.from_numpy(masks).float()[:, None], size)
        for masks in (scenes.person_masks | scenes.face_masks, scenes.face_masks)
    )
    weight = BACKGROUND_WEIGHT + (1 - BACKGROUND_WEIGHT) * person
    return weight + (FACE_WEIGHT - 1) * face


def canvas_backbone(model: TextToImage, device: str) -> Backbone:
    """Build the backbone of a model under training, with the portraits' latent scale."""
    portrait = entry("text_to_image")
    return Backbone(
        unet=model.unet, autoencoder=load_autoencoder(), text_encoder=model.text_encoder,
        tokenizer=WordTokenizer(PROMPT_LENGTH, CANVAS_VOCABULARY), scheduler=make_scheduler(),
        latent_scale=portrait["latent_scale"], latent_shift=portrait["latent_shift"],
    ).to(device)  # fmt: skip


class CanvasLoss:
    """The loss of a step: velocity of scenes' latents, from their captions or CLIP embeddings."""

    def __init__(self, backbone: Backbone, scenes: Window[LatentScenes], budget: Budget) -> None:
        self.backbone, self.scenes, self.budget = backbone, scenes, budget
        self.empty = backbone.tokenizer([""])

    def __call__(self, model: CanvasTextToImage, generator: torch.Generator) -> dict[str, Tensor]:
        """Compute the loss term of one batch, named by its condition."""
        backbone, device = self.backbone, self.budget.device
        scenes = self.scenes.at(step_of(generator, self.budget))
        chosen = scenes[torch.randint(len(scenes), (BATCH,), generator=generator)].to(device)
        clean = chosen.latents.float()
        noise = torch.randn(clean.shape, generator=generator).to(device)
        timesteps = torch.randint(backbone.timesteps, (BATCH,), generator=generator).to(device)
        by_image = bool(torch.rand((), generator=generator) < IMAGE_PROMPTS)
        dropped = (torch.rand(BATCH, 1, generator=generator) < PROMPTS_DROPPED).to(device)
        tokens = torch.where(dropped, self.empty.to(device), chosen.captions)
        noisy = backbone.add_noise(clean, noise, timesteps)
        prompt = {"images": chosen.images} if by_image else {"tokens": tokens}
        predicted = model(noisy, timesteps, **prompt).float()
        error = (predicted - backbone.training_target(clean, noise, timesteps)).square()
        weight = chosen.weight.float()
        velocity = (weight * error).sum() / weight.sum() / error.shape[1]
        return {"by_image" if by_image else "by_text": velocity}


def main() -> None:
    """Run the command."""
    budget = budget_arguments(__doc__.splitlines()[0], minutes=92)
    torch.manual_seed(budget.seed)
    portrait = TextToImage(entry("text_to_image")["config"])
    load_weights("text_to_image", portrait)
    model = begin("canvas", grow_canvas(portrait), budget)
    backbone = canvas_backbone(model, budget.device)
    model.requires_grad_(True)  # load_backbone freezes its parts
    clip = load_clip().to(budget.device)
    check = render_scenes("foundation_check", 0, 600, BODIES_AND_PORTRAITS)

    def watch(model: CanvasTextToImage) -> str:
        drawn = sample(canvas_backbone(model, budget.device), check.captions[:8], seed=0)
        save_sheet(beside(drawn, check.pixels()[:8], 8), budget.work / "canvas.png", 8)
        return f"sheet in {budget.work / 'canvas.png'}"

    stream = SceneStream("foundation", partial(prepare, backbone, clip), BODIES_AND_PORTRAITS)
    lesson = CanvasLoss(backbone, Window(stream, CHUNKS, STEPS, budget.device), budget)
    trained = train("canvas", model, lesson, budget, 4e-4, average=AVERAGE, watch=watch)
    stream.close()
    record = trained.record | measure(trained.model, check, clip, shipped_detector(), budget)
    scales = {name: entry("text_to_image")[name] for name in ("latent_scale", "latent_shift")}
    ship("canvas", trained.model, CANVAS_CONFIG, record, script="canvas", **scales)


def shipped_detector() -> HeatMapDetector | None:
    """Load the detector that counts people; print a line and return None if it is not shipped."""
    try:
        return load_detector()
    except MissingWeights as missing:
        print(f"people are not counted: {missing}", flush=True)
        return None


def counted_right(detector: HeatMapDetector, images: Tensor, people: NDArray[np.int64]) -> float:
    """Return the share of images [B, 3, H, W] with as many detected faces as people [B]."""
    found = [len(faces) for part in images.split(25) for faces in detector.find(part)]
    return round(float((np.array(found) == people).mean()), 3)


@torch.no_grad()
def measure(
    model: CanvasTextToImage,
    check: Scenes,
    clip: ClipEncoder,
    detector: HeatMapDetector | None,
    budget: Budget,
) -> dict[str, float]:
    """Measure Fréchet distances of samples and round trips to held-out scenes, among others.

    Samples are drawn from the captions of the first half of `check` and, by_image, from CLIP's
    embeddings of those scenes; distances are to its second half. image_followed: CLIP's mean cosine
    between an image and the sample drawn from it; image_followed_by_chance: between that sample and
    the next image. people_counted: the share of samples from captions with as many faces as the
    caption names, and the same share of renders, if a detector is shipped.
    """
    backbone = canvas_backbone(model, budget.device)
    scenes = check.pixels().to(budget.device)
    renders, others = scenes.chunk(2)
    prompts = TextFeatures(model.to(budget.device).image_prompt(clip.image_embedding(renders)))
    texts = backbone.encode_text(check.captions[: len(renders)])

    def draw(read: TextFeatures) -> Tensor:
        rounds = range(0, len(renders), 25)
        return torch.cat([sample(backbone, read[i : i + 25], seed=1000 + i) for i in rounds])

    # Draw from captions and from images, and save sheets.
    by_text, by_image = draw(texts), draw(prompts)
    save_sheet(beside(by_text[:SHOWN], renders[:SHOWN]), budget.work / "canvas.png")
    save_sheet(beside(by_image[:SHOWN], renders[:SHOWN]), budget.work / "canvas_by_image.png")
    trips = torch.cat([backbone.decode(backbone.encode(p)).clamp(-1, 1) for p in renders.split(25)])
    # Compare with the renders.
    real = statistics(clip, others)
    given, followed = clip.image_embedding(renders), clip.image_embedding(by_image)
    figures = {
        "fid": frechet(real, statistics(clip, by_text)),
        "fid_by_image": frechet(real, statistics(clip, by_image)),
        "fid_of_round_trips": frechet(real, statistics(clip, trips)),
        "fid_of_renders": frechet(real, statistics(clip, renders)),
        "image_followed": round(float((given * followed).sum(-1).mean()), 3),
        "image_followed_by_chance": round(float((given.roll(1, 0) * followed).sum(-1).mean()), 3),
    }
    # Count the faces.
    if detector is not None:
        detector.to(budget.device)
        people = check.people[: len(renders)]
        figures["people_counted"] = counted_right(detector, by_text, people)
        figures["people_counted_of_renders"] = counted_right(detector, renders, people)
    return figures


if __name__ == "__main__":
    main()
