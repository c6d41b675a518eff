"""Train the autoencoder's decoder further, on small faces and the larger canvas.

python -m portraitlab.pretraining.decoder --minutes 40

The encoder is unchanged, and so are all latents: models trained on them stay valid. The training
starts from the package's autoencoder, and ships it with the new decoder.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from portraitlab.faces.alignment import align
from portraitlab.pretraining.autoencoder import (
    FACE_WEIGHT,
    FACES,
    PERSON_WEIGHT,
    edges,
    face_cosine,
    round_trips,
    with_noise,
)
from portraitlab.pretraining.loop import Budget, budget_arguments, step_of, train
from portraitlab.pretraining.photos import TrainingPhotos, load_photos
from portraitlab.pretraining.round_trips import face_round_trips
from portraitlab.pretraining.scenes import CHUNKS, Scenes, SceneStream
from portraitlab.pretraining.ship import ship
from portraitlab.pretraining.window import Window
from portraitlab.types import TensorRecord
from portraitlab.world.models.autoencoder import CONFIG, UnshuffledAutoencoder
from portraitlab.world.models.recognisers import WorldRecogniser
from portraitlab.world.pretrained import entry, load_autoencoder, load_recogniser

PORTRAITS, SCENES = 32, 8
"""Images per step: portraits of either framing in two of three steps, else larger scenes."""
STEPS = 128
"""Steps between one chunk of scenes and the next."""
SMALL_FACE_WEIGHT = 8.0
"""Additional weight of errors on a face of a scene over errors on the background."""


@dataclass(frozen=True)
class DecodedScenes(TensorRecord):
    """Scenes as tensors.

    images [S, 3, 128, 128] uint8. weight [S, 1, 128, 128] fp16: weight of errors. keypoints
    [S, 4, 5, 2] of faces, of which the first people [S] exist.
    """

    images: Tensor
    weight: Tensor
    keypoints: Tensor
    people: Tensor

    @classmethod
    def of(cls, scenes: Scenes) -> DecodedScenes:
        """Convert rendered scenes."""
        weight = np.where(scenes.person_masks, PERSON_WEIGHT, 1.0).astype(np.float16)
        weight[scenes.face_masks] = SMALL_FACE_WEIGHT
        return cls(
            torch.from_numpy(scenes.images).permute(0, 3, 1, 2).contiguous(),
            torch.from_numpy(weight)[:, None],
            torch.from_numpy(scenes.keypoints),
            torch.from_numpy(scenes.people),
        )

    def face_cosine(self, recogniser: WorldRecogniser, decoded: Tensor, images: Tensor) -> Tensor:
        """Compute the recogniser's cosine [F] between all faces of images and decoded images."""
        there = torch.arange(self.keypoints.shape[1]) < self.people[:, None]
        scene, keypoints = there.nonzero()[:, 0].to(images.device), self.keypoints[there]
        one, other = (
            recogniser(align(shown[scene], keypoints.to(images), recogniser.crop_size)).float()
            for shown in (decoded, images)
        )
        return (one * other).sum(-1)


class DecoderLoss:
    """The loss of a step: decoding portraits of both framings, or scenes, in turn."""

    def __init__(
        self,
        portraits: TrainingPhotos,
        varied: TrainingPhotos,
        scenes: Window[DecodedScenes],
        budget: Budget,
    ) -> None:
        self.photos, self.scenes, self.budget = (portraits, varied), scenes, budget
        self.recogniser = load_recogniser("recogniser").to(budget.device)

    def __call__(
        self, model: UnshuffledAutoencoder, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Compute the loss terms of one batch."""
        step = step_of(generator, self.budget)
        kind = step % 3
        if kind == len(self.photos):
            return self._scenes(model, self.scenes.at(step), generator)
        return self._portraits(model, self.photos[kind], generator)

    def _portraits(
        self, model: UnshuffledAutoencoder, photos: TrainingPhotos, generator: torch.Generator
    ) -> dict[str, Tensor]:
        index = torch.randint(len(photos), (PORTRAITS,), generator=generator)
        images = photos.pixels(index).to(self.budget.device)
        weight = 1 + (PERSON_WEIGHT - 1) * photos.masks(index).to(images)
        decoded = _decoded(model, images, generator)
        cosine = face_cosine(self.recogniser, photos, index[:FACES], decoded, images)
        return _terms(decoded, images, weight, cosine)

    def _scenes(
        self, model: UnshuffledAutoencoder, scenes: DecodedScenes, generator: torch.Generator
    ) -> dict[str, Tensor]:
        chosen = scenes[torch.randint(len(scenes), (SCENES,), generator=generator)]
        images = chosen.images.to(self.budget.device).float() / 127.5 - 1
        decoded = _decoded(model, images, generator)
        cosine = chosen.face_cosine(self.recogniser, decoded, images)
        return _terms(decoded, images, chosen.weight.to(images), cosine)


def _decoded(model: UnshuffledAutoencoder, images: Tensor, generator: torch.Generator) -> Tensor:
    with torch.no_grad():
        posterior = model.encode(images).latent_dist
    return model.decode(with_noise(posterior, generator)).sample.float()


def _terms(decoded: Tensor, images: Tensor, weight: Tensor, cosine: Tensor) -> dict[str, Tensor]:
    error = (decoded - images).abs() + 2 * (decoded - images).square()
    return {
        "pixels": (weight * error).mean(),
        "face": FACE_WEIGHT * (1 - cosine).mean(),
        "edges": functional.l1_loss(edges(decoded), edges(images)),
    }


def freeze_encoder(model: UnshuffledAutoencoder) -> UnshuffledAutoencoder:
    """Freeze all parameters of an autoencoder but those that decode latents to images."""
    model.requires_grad_(False)
    model.inner.decoder.requires_grad_(True)
    model.inner.post_quant_conv.requires_grad_(True)
    return model


def main() -> None:
    """Run the command."""
    # Always start from the package's weights, and count only this training's minutes.
    budget = replace(budget_arguments(__doc__.splitlines()[0], minutes=40), from_shipped=False)
    portraits = load_photos("foundation", 7000, 6, budget.cache, budget.workers)
    varied = load_photos("foundation", 7000, 3, budget.cache, budget.workers, "varied")
    check = load_photos("foundation_check", 300, 8, budget.cache, budget.workers)
    torch.manual_seed(budget.seed)
    model = freeze_encoder(load_autoencoder())

    def watch(model: UnshuffledAutoencoder) -> str:
        return str(round_trips(model, check, budget, count=100))

    stream = SceneStream("foundation", DecodedScenes.of)
    lesson = DecoderLoss(portraits, varied, Window(stream, CHUNKS, STEPS, budget.device), budget)
    trained = train("decoder", model, lesson, budget, 3e-4, average=0.998, watch=watch)
    stream.close()
    # Keep the autoencoder's record, update its measures, and add the decoder's record.
    record = entry("autoencoder")["training"] | round_trips(trained.model, check, budget)
    record |= face_round_trips(trained.model, budget.device)
    record |= {f"decoder_{name}": trained.record[name] for name in ("steps", "minutes")}
    ship("autoencoder", trained.model, CONFIG, record, script="autoencoder")


if __name__ == "__main__":
    main()
