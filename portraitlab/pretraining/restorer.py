"""Train the net of blind face restoration.

python -m portraitlab.pretraining.restorer --minutes 12

Portraits are degraded as in GFPGAN (Wang et al., CVPR 2021, eq. 1) and CodeFormer (Zhou et al.,
NeurIPS 2022), which take the same steps: blur, reduction, noise and JPEG. The loss is their L1 and
perceptual term; there is no adversarial one, which this short training would not balance.
"""

from __future__ import annotations

import io
import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.functional import gaussian_blur

from portraitlab.faces.alignment import align
from portraitlab.faces.encoder.face_encoder import photo_tensor
from portraitlab.method.edit.squares import resized, square_around
from portraitlab.pretraining.loop import budget_arguments, train
from portraitlab.pretraining.photos import TrainingPhotos, flawed, load_photos
from portraitlab.pretraining.ship import begin, ship
from portraitlab.scoring.pictures import to_image
from portraitlab.world.models.restorer import CONFIG, FaceRestorer
from portraitlab.world.pretrained import load_clip, load_recogniser

BATCH = 16
SIZE = FaceRestorer.image_size
PHOTOS, CHECK = ("foundation", 3000, 2), ("foundation_check", 300, 2)
BLUR, REDUCTION, NOISE, QUALITY = (0.05, 2.5), (1.0, 8.0), (0.0, 15.0), (60, 100)
"""Ranges of the blur's deviation in pixels of the crop, of the factor by which the crop is reduced,
of the noise's deviation in levels of 255, and of JPEG's quality.

They are GFPGAN's (Sec. 4.1), with its blur of 512 px divided by four.
"""
JITTER = 0.01
"""Standard deviation of noise on the true keypoints, as in the training of the quality model."""
PERCEPTION_WEIGHT = 0.05
"""Weight of the distance between the patch tokens of the CLIP that conditions."""


def cut_faces(
    photos: TrainingPhotos, index: Tensor, generator: torch.Generator, jitter: float = JITTER
) -> tuple[Tensor, Tensor]:
    """Cut photos `index` [B] as edits cut faces: crops [B, 3, SIZE, SIZE], and keypoints in them.

    jitter: deviation of noise on the keypoints [B, 5, 2] that place the square.
    """
    images, points = photos.pixels(index), torch.from_numpy(photos.keypoints[index.numpy()])
    found = points + jitter * torch.randn(points.shape, generator=generator)
    edge = images.shape[-1]
    squares = [square_around(each, edge, edge) for each in found]
    crops = [square.cut(image, SIZE) for square, image in zip(squares, images, strict=True)]
    corners = torch.tensor([[square.left, square.top] for square in squares])
    sides = torch.tensor([square.side for square in squares])
    return torch.stack(crops), (points * edge - corners[:, None]) / sides[:, None, None]


def degrade(images: Tensor, generator: torch.Generator) -> Tensor:
    """Blur, reduce, add noise to, compress and enlarge images [B, 3, S, S], each by its own draw.

    Images and result are in [-1, 1].
    """
    return torch.stack([_degrade(image, generator) for image in images])


def _degrade(image: Tensor, generator: torch.Generator) -> Tensor:
    ranges = torch.tensor([BLUR, REDUCTION, NOISE, QUALITY])
    low, high = ranges.unbind(1)
    drawn = low + (high - low) * torch.rand(4, generator=generator)
    blur, reduction, noise, quality = drawn.tolist()
    size = image.shape[-1]

    # Reduce the blurred image, and compress it with noise.
    kernel = 2 * math.ceil(3 * blur) + 1
    small = resized(gaussian_blur(image, [kernel] * 2, [blur] * 2), round(size / reduction))
    noised = small + noise / 127.5 * torch.randn(small.shape, generator=generator)
    file = io.BytesIO()
    to_image(noised).save(file, "JPEG", quality=round(quality))

    # Enlarge it as edits do.
    stored = photo_tensor(np.asarray(Image.open(file)))[0]
    return resized(stored, size).clamp(-1, 1)


def main() -> None:
    """Run the command."""
    budget = budget_arguments(__doc__.splitlines()[0], minutes=12)
    photos, check = (
        load_photos(*place, budget.cache, budget.workers, size=SIZE) for place in (PHOTOS, CHECK)
    )
    sound = torch.from_numpy(np.flatnonzero(~flawed(*PHOTOS)))
    checked = torch.from_numpy(np.flatnonzero(~flawed(*CHECK)))
    torch.manual_seed(budget.seed)
    clip = load_clip().to(budget.device)

    # Sum pixel and perceptual losses.
    def loss(model: FaceRestorer, generator: torch.Generator) -> dict[str, Tensor]:
        chosen = sound[torch.randint(len(sound), (BATCH,), generator=generator)]
        clean, _ = cut_faces(photos, chosen, generator)
        broken = degrade(clean, generator).to(budget.device)
        clean = clean.to(budget.device)
        restored = model(broken).float()
        with torch.no_grad():
            perceived = clip.patch_tokens(clean).float()
        distance = functional.l1_loss(clip.patch_tokens(restored).float(), perceived)
        return {
            "pixels": functional.l1_loss(restored, clean),
            "perception": PERCEPTION_WEIGHT * distance,
        }

    def watch(model: FaceRestorer) -> str:
        return str(restorations(model, check, checked[:100]))

    # Train, measure and ship.
    untrained = begin("restorer", FaceRestorer(**CONFIG), budget)
    trained = train("restorer", untrained, loss, budget, 2e-3, average=0.998, watch=watch)
    record = trained.record | restorations(trained.model, check, checked)
    ship("restorer", trained.model, CONFIG, record, script="restorer")


@torch.no_grad()
def restorations(model: FaceRestorer, photos: TrainingPhotos, index: Tensor) -> dict[str, float]:
    """Compare broken and restored crops of photos `index` with the clean ones.

    psnr_db: mean over photos, whole crop. cosine: mean over photos, by the conditioning recogniser
    at the true keypoints, which is not used in the training. Broken crops are only enlarged, as by
    edit=bicubic.
    """
    model.cpu().eval()
    recogniser = load_recogniser("recogniser")
    generator = torch.Generator().manual_seed(0)
    figures: dict[str, list[Tensor]] = {}
    for part in index.split(50):
        clean, points = cut_faces(photos, part, generator, jitter=0.0)
        broken = degrade(clean, generator)
        person = recogniser(align(clean, points, recogniser.crop_size))
        for name, shown in (("broken", broken), ("restored", model(broken).clamp(-1, 1))):
            error = (shown - clean).square().mean((1, 2, 3))
            seen = recogniser(align(shown, points, recogniser.crop_size))
            figures.setdefault(f"psnr_db_{name}", []).append(10 * (4 / error).log10())
            figures.setdefault(f"cosine_{name}", []).append((seen * person).sum(-1))
    return {name: round(float(torch.cat(parts).mean()), 3) for name, parts in figures.items()}


if __name__ == "__main__":
    main()
