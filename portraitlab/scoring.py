"""Scoring: a trained model draws held-out identities, the judge looks, metrics sum up."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from portraitlab.data.photo_set import PhotoSet
from portraitlab.data.scoring import Sample, ScoringSet
from portraitlab.fingerprint import tensors_digest
from portraitlab.judge import Judge
from portraitlab.metrics.metric import PortraitMetric
from portraitlab.model import PortraitModel
from portraitlab.pictures import Shown
from portraitlab.precision import computing_in, frozen_precision
from portraitlab.sampler.ddim import DDIM
from portraitlab.side_by_side import side_by_side
from portraitlab.tensor_cache import cached_tensors
from portraitlab.types import Batch, Judged, View

_SHOWN = 6


@dataclass(frozen=True)
class Portraits:
    """What was drawn: images [S, 3, H, W] and the batch they were drawn from, on the CPU."""

    images: Tensor
    batch: Batch
    samples: Sequence[Sample]


Change = Callable[[Batch, Sequence[Sample]], Batch]
"""What is done to samples before they are drawn."""


@torch.inference_mode()
def draw(
    model: PortraitModel,
    sampler: DDIM,
    scoring: ScoringSet,
    batch_size: int,
    device: torch.device,
    count: int | None = None,
    change: Change | None = None,
    *,
    precision: str,
    cache: Path | None = None,
) -> Portraits:
    """Draw the first `count` samples of a scoring set, or all, each from its own noise seed.

    change: what is planted in every batch, to see whether the figures notice. precision: see
    frozen_precision. cache: folder for the latents of control images, which other runs need too.
    """
    from rich.progress import track

    model.eval()
    count = len(scoring) if count is None else min(count, len(scoring))
    rounds = math.ceil(count / batch_size)

    def parts() -> Iterator[tuple[Batch, list[int]]]:
        left = count
        for batch, samples in islice(scoring.batches(batch_size), rounds):
            batch, samples = batch[:left], samples[:left]
            left -= len(samples)
            if change is not None:
                with computing_in(precision, device):
                    batch = change(batch, samples)
            yield batch, [sample.seed for sample in samples]

    def drawn(part: tuple[Batch, list[int]]) -> tuple[Tensor, Batch]:
        batch, seeds = part
        given = batch.to(device)
        if cache is not None:
            given = replace(given, drawing=_drawing(model, given, cache / "drawings", precision))
        return sampler.sample(model, given, seeds).cpu(), batch

    with sampler.ready(model.backbone):
        done = side_by_side(drawn, parts(), device, precision)
        images, batches = zip(*track(done, "Drawing portraits", total=rounds), strict=True)
    return Portraits(torch.cat(images), Batch.cat(batches), scoring.samples[:count])


def _drawing(model: PortraitModel, batch: Batch, folder: Path, precision: str) -> Tensor | None:
    """The control images of a batch as the net reads them, their latents by way of the cache."""
    image = model.control_image(batch.shape_geometry, batch.target_geometry)
    if image is None or model.net.pixels:
        return image
    backbone = model.backbone
    about = [backbone.fingerprint, frozen_precision(precision, image.device)]
    found = cached_tensors(
        folder,
        ["drawing", tensors_digest(image), *about],
        lambda: {"latents": backbone.encode(image).float().cpu()},
    )
    return found["latents"].to(image.device)


def measure(
    portraits: Portraits,
    photos: PhotoSet,
    model: PortraitModel,
    judge: Judge,
    metrics: Mapping[str, PortraitMetric],
    batch_size: int,
    device: torch.device,
) -> dict[str, Any]:
    """The figures of drawn portraits, and of what they lie between, as plain JSON content.

    batch_size: of targets that are decoded at once.

    Bounds: `another identity`, the target of the next identity; `real other photo`, a reference
    that was conditioned on (its face is the person's, its pose and expression are not the
    target's); `autoencoder round trip`, the target decoded from its own latents, which shows a
    stranger where targets are of others.
    """
    judge.to(device)
    samples = portraits.samples
    rows = sorted({row for s in samples for row in (s.target, s.references[0], *s.judges)})
    place = {row: number for number, row in enumerate(rows)}
    size = judge.batch_size
    real = judge.view(
        (photos.store.images(rows[i : i + size]) for i in range(0, len(rows), size)), again=True
    )
    names = sorted({sample.identity for sample in samples})
    truth = Judged(
        generated=judge.view([portraits.images]),
        target=real[[place[sample.target] for sample in samples]],
        references=_references(real, place, samples),
        text=judge.text([sample.caption for sample in samples]),
        identity=torch.tensor([names.index(sample.identity) for sample in samples]),
    )
    first = {sample.identity: sample.target for sample in reversed(samples)}
    owner = photos.store.identity
    following = dict(zip(names, [*names[1:], names[0]], strict=True))
    stand_ins = {
        "another identity": real[[place[first[following[s.identity]]] for s in samples]],
        "real other photo": real[[place[sample.references[0]] for sample in samples]],
        "autoencoder round trip": judge.view(
            side_by_side(
                lambda part: model.backbone.decode(part.to(device)).float(),
                portraits.batch.latents.split(batch_size),
                device,
                judge.precision,
            ),
            again=True,
        ),
    }
    if any(owner[first[following[sample.identity]]] == sample.identity for sample in samples):
        del stand_ins["another identity"]  # there is no other, or the other's target is their own
    return {
        "images": len(samples),
        "identities": len(names),
        "faceless": int((~truth.generated.has_face).sum()),
        "metrics": _estimates(metrics, truth, names, judge.titles),
        "bounds": {
            name: _estimates(metrics, replace(truth, generated=view), names, judge.titles)
            for name, view in stand_ins.items()
        },
    }


def show_samples(portraits: Portraits, photos: PhotoSet, model: PortraitModel) -> list[Shown]:
    """One sample of each of the first few identities, as people look at it."""
    first: dict[str, int] = {}
    for number, sample in enumerate(portraits.samples):
        first.setdefault(sample.identity, number)
    chosen = list(first.values())[:_SHOWN]
    batch = portraits.batch[chosen]
    device = next(model.backbone.parameters()).device
    with torch.inference_mode():
        control = model.control_image(
            batch.shape_geometry.to(device), batch.target_geometry.to(device)
        )
    return [
        Shown(
            identity=portraits.samples[number].identity,
            references=tuple(photos.store.images(list(portraits.samples[number].references))),
            control=None if control is None else control[place].cpu(),
            generated=portraits.images[number],
            target=photos.store.images([portraits.samples[number].target])[0],
        )
        for place, number in enumerate(chosen)
    ]


def _references(real: View, place: Mapping[int, int], samples: Sequence[Sample]) -> View:
    most = max(len(sample.judges) for sample in samples)
    rows = torch.zeros(len(samples), most, dtype=torch.long)
    known = torch.zeros(len(samples), most, dtype=torch.bool)
    for number, sample in enumerate(samples):
        rows[number, : len(sample.judges)] = torch.tensor([place[row] for row in sample.judges])
        known[number, : len(sample.judges)] = True
    view = real[rows]
    return replace(view, has_face=view.has_face & known)


def _estimates(
    metrics: Mapping[str, PortraitMetric],
    judged: Judged,
    names: Sequence[str],
    titles: Mapping[str, str],
) -> dict[str, Any]:
    """Plain figures; by_identity is by the identities' names. titles: see Judge."""
    estimates: dict[str, Any] = {}
    for name, metric in metrics.items():
        metric.reset()
        metric.update(judged)
        estimate = metric.compute()
        estimates[name] = {
            "value": _number(estimate.value),
            "error": _number(estimate.error),
            "samples": estimate.samples,
            "identities": estimate.identities,
            "higher_is_better": metric.higher_is_better,
            "method": metric.method.format_map(titles),
            "without_a_face": metric.missed,
        }
        if estimate.by_identity is not None:
            estimates[name]["by_identity"] = {
                names[number]: _number(value) for number, value in estimate.by_identity.items()
            }
    return estimates


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)
