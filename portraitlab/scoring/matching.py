"""Errors of matching against the renderer's truth: figure 4 of IC-Portrait as numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from portraitlab.data.world import sound_photos
from portraitlab.faces.encoder.face_encoder import photo_tensor
from portraitlab.method.cond.style import on_black, sampled_pixels
from portraitlab.method.matching import best_match, cell_centres, resized_places, warp
from portraitlab.method.model import PortraitModel
from portraitlab.scoring.metrics.metric import Estimate
from portraitlab.scoring.pictures import grid
from portraitlab.types import TensorRecord
from portraitlab.world.photo import Photo
from portraitlab.world.views import correspondence, render_views

WITHIN = (1, 2, 4)
"""Distances in cells up to which a match counts as found."""


@dataclass(frozen=True)
class ViewPairs(TensorRecord):
    """B pairs of views of one moment, with the true places of the style picture's cells.

    style and profile [B, 3, H, W]. places [B, g, g, 2]: places in the profile, in image fractions.
    person and face [B, g, g] bool: cells that show the person, or the face, if the profile shows
    the same surface.
    """

    style: Tensor
    profile: Tensor
    places: Tensor
    person: Tensor
    face: Tensor

    @classmethod
    def render(cls, people: Sequence[int], degrees: float, size: int, cells: int) -> Self:
        """Render a pair of portraits for each person's identity seed.

        degrees: between the two cameras, which are at equal angles to either side; people turn to
        the left and to the right in turn. size: pixels a side, a multiple of the cells a side.
        """
        pairs = []
        for number, person in enumerate(people):
            half = np.deg2rad(degrees) / 2 * (-1) ** number
            photo = next(sound_photos(person))
            style, profile = render_views(person, photo, [-half, half], size)
            images = photo_tensor(style.image), photo_tensor(profile.image)
            pairs.append(cls(*images, *true_places(style, profile, cells)))
        return cls.cat(pairs)


def true_places(style: Photo, profile: Photo, cells: int) -> tuple[Tensor, Tensor, Tensor]:
    """Find places [1, g, g, 2] in the profile, and person and face [1, g, g]; see ViewPairs.

    A cell's offset is the mean of its pixels that show the person and are visible in the profile.
    A cell shows something where at least half of its pixels do.
    """
    found = correspondence(style, profile)
    size = len(style.image)
    step = size // cells
    offsets = torch.from_numpy(found.places) - cell_centres(size, size)
    seen = torch.from_numpy(found.visible & style.person_mask).float()
    face = seen * torch.from_numpy(style.face_mask)

    def mean(values: Tensor) -> Tensor:
        return functional.avg_pool2d(values[None], step)

    share = mean(seen[None])
    moved = mean(offsets.movedim(-1, 0) * seen) / share.clamp(min=1e-6)
    places = cell_centres(cells, cells) + moved.movedim(1, -1)
    return places, share[0] >= 0.5, mean(face[None])[0] >= 0.5


@dataclass(frozen=True)
class SampledPair(TensorRecord):
    """Pairs of a style picture and a profile, [B, 3, H, W] each.

    sampled: the style picture's sampled pixels on black, which only the trained net reads. style:
    the whole picture, which every descriptor reads, most of them under noise.
    """

    style: Tensor
    sampled: Tensor
    profile: Tensor


class Descriptors(Protocol):
    """Features of style pictures and of profiles, in which the two are matched."""

    def __call__(
        self, model: PortraitModel, pair: SampledPair, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Compute features [B, C, h, w] of style pictures and of profiles.

        Raises ValueError where the net or the weights that they need are missing.
        """
        ...


@torch.no_grad()
def found_places(
    descriptors: Descriptors,
    model: PortraitModel,
    pairs: ViewPairs,
    share: float,
    seed: int,
    batch_size: int,
) -> Tensor:
    """Match the pairs by descriptors; return places [B, g, g, 2] in the profiles.

    share: sampled share of the style pictures' pixels (eq. 1). Features are matched at their own
    resolution, and the offsets are resized to the g x g cells, as `warp` does in drawing.
    """
    generator, pixels = (torch.Generator().manual_seed(seed) for _ in range(2))
    cells = pairs.places.shape[1]
    places: list[Tensor] = []
    for begin in range(0, len(pairs), batch_size):
        part = pairs[begin : begin + batch_size].to(model.backbone.latent_scale.device)
        size = part.style.shape[-2:]
        kept = [sampled_pixels(size, share, pixels) for _ in range(len(part))]
        sampled = on_black(part.style, torch.stack(kept))
        pair = SampledPair(part.style, sampled, part.profile)
        style, profile = descriptors(model, pair, generator)
        found = best_match(style.float(), profile.float()).places.cpu()
        places.append(resized_places(found, (cells, cells)))
    return torch.cat(places)


def matching_figures(
    places: Tensor, pairs: ViewPairs, people: Sequence[int], degrees: float, share: float
) -> dict[str, Any]:
    """Measure places [B, g, g, 2] of pairs of the people, as metrics of a record.

    error: mean distance from the true places, in cells, over the cells that show the person.
    within_1, within_2, within_4: share of these cells whose distance is at most so many cells.
    face_error: the error of the face's cells alone. All are means over a pair's visible cells, then
    over pairs, with the standard error over pairs; pairs without such a cell are left out. Names
    end in views_suffix.
    """
    distances = (places - pairs.places).norm(dim=-1) * places.shape[1]
    number = torch.arange(len(places))
    end = views_suffix(degrees, share)
    views = f"cameras {degrees:g} degrees apart, {share:.0%} of the style picture's pixels"

    def figure(values: Tensor, region: Tensor, up: bool, method: str) -> dict[str, Any]:
        means = (values * region).sum(dim=(1, 2)) / region.sum(dim=(1, 2))
        found = Estimate.over_identities(means.double(), number)
        assert found.by_identity is not None
        return {
            "value": _number(found.value), "error": _number(found.error),
            "samples": found.samples, "identities": found.identities, "higher_is_better": up,
            "method": f"{method}; {views}", "without_a_face": "left out",
            "by_identity": {str(people[i]): _number(each) for i, each in found.by_identity.items()},
        }  # fmt: skip

    mean = "mean distance from the true place, in cells"
    figures = {
        f"error_{end}": figure(distances, pairs.person, False, mean),
        f"face_error_{end}": figure(distances, pairs.face, False, f"{mean}, of the face"),
    }
    for most in WITHIN:
        near, cells = (distances <= most).float(), f"{most} cell{'s' * (most > 1)}"
        method = f"share of matches within {cells} of the true place"
        figures[f"within_{most}_{end}"] = figure(near, pairs.person, True, method)
    return figures


def views_suffix(degrees: float, share: float) -> str:
    """Return the angle in degrees, and the share of sampled pixels in percent if it is not 100."""
    return f"{degrees:g}" if share == 1 else f"{degrees:g}_of_{100 * share:g}"


def _number(value: float) -> float | None:
    """Round to four decimals; None for what cannot be measured."""
    return None if math.isnan(value) else round(value, 4)


def flow_sheet(pairs: ViewPairs, found: Mapping[str, Tensor]) -> Image.Image:
    """Draw two rows a pair: profiles warped to the style picture, and the places as colours.

    found: places [B, g, g, 2] by title. Red is a place's x in the profile and green its y. Cells
    that are not measured are black.
    """
    size = pairs.style.shape[-2:]
    shown = functional.interpolate(pairs.person[:, None].float(), size) > 0

    def coloured(places: Tensor) -> Tensor:
        colours = torch.cat([2 * places - 1, torch.zeros_like(places[..., :1])], dim=-1)
        return functional.interpolate(colours.movedim(-1, 1), size)

    own = cell_centres(*pairs.places.shape[1:3]).expand_as(pairs.places)
    columns = {"true places": pairs.places, **found}
    rows: list[list[Tensor | None]] = []
    for number in range(len(pairs)):
        pair, only = pairs[number : number + 1], shown[number]
        each = [places[number : number + 1] for places in columns.values()]
        warped = [warp(pair.profile, places)[0].where(only, -1.0) for places in each]
        rows.append([pair.style[0], pair.profile[0], *warped])
        colours = [coloured(places)[0].where(only, -1.0) for places in each]
        rows.append([None, coloured(own[:1])[0], *colours])
    return grid(["style", "profile", *columns], rows)
