"""Measure drawn portraits, and bounds for their scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from portraitlab.data.photo_set import PhotoSet
from portraitlab.data.testset import RealPhotos, Sample
from portraitlab.method.model import PortraitModel
from portraitlab.scoring.draw import Portraits
from portraitlab.scoring.judge import Judge
from portraitlab.scoring.metrics.metric import PortraitMetric
from portraitlab.scoring.people import view_faces, view_people
from portraitlab.support.side_by_side import side_by_side
from portraitlab.types import DrawingCost, Judged, View


def measure(
    portraits: Portraits,
    photos: PhotoSet,
    real: RealPhotos,
    model: PortraitModel,
    judge: Judge,
    metrics: Mapping[str, PortraitMetric],
    batch_size: int,
    device: torch.device,
    alone: Portraits | None = None,
    cost: DrawingCost | None = None,
) -> dict[str, Any]:
    """Compute the metrics of drawn portraits and of bounds, as plain JSON content.

    real: photos that FID compares with. batch_size: targets that are decoded at once. alone:
    pictures of the first samples by the backbone alone, see backbone_alone. cost: cost of one
    portrait.

    Bounds: `another identity`, the target of the next identity; `real other photo`, a photo of the
    person without a flaw that is neither target nor judge; `autoencoder round trip`, the target
    decoded from its own latents, which shows a stranger if targets are of others; and for rendered
    photos `regressor against truth`: estimates of the targets against what they were rendered with.
    Distances of sets are left out of a bound whose photos repeat, as templates do.
    """
    # Measure the targets.
    judge.to(device)
    samples = portraits.samples
    wanted = {name for metric in metrics.values() for name in metric.reads}
    seen = _PhotoViews(judge, photos, samples, wanted)
    names = sorted({sample.identity for sample in samples})
    target = seen.of([sample.target for sample in samples])
    place = portraits.place

    def viewed(images: Tensor, again: bool = False) -> View:
        if not photos.store.close_ups:
            return judge.view([images], again, wanted)
        rows = torch.tensor([sample.target for sample in samples])
        points = photos.features.geometry[rows].keypoints
        size = photos.store.view_size
        return view_people(judge, images, place, points, size, again, wanted)

    # Measure the real photos.
    population = judge.population(_in_parts(real.store.images, real.rows, judge))
    if "face_features" in wanted:
        faces = population.features
        if photos.store.close_ups:
            pictures = real.store.images(real.rows)
            faces = view_faces(judge, pictures, photos.store.view_size).features
        population = replace(population, face_features=faces)

    # Measure the portraits.
    generated = viewed(portraits.images)
    truth = Judged(
        generated=generated,
        target=target,
        references=seen.up_to_as_many([sample.judges for sample in samples]),
        conditioned=seen.up_to_as_many([sample.references for sample in samples]),
        text=judge.text([sample.caption for sample in samples]),
        identity=torch.tensor([names.index(sample.identity) for sample in samples]),
        alone=torch.full_like(generated.picture, torch.nan),
        image=place,
        population=population,
        light=_true_light(photos, samples) if "light" in wanted else None,
    )
    if alone is not None:
        truth.alone[: len(alone.images)] = judge.view([alone.images]).picture

    def estimates(judged: Judged, some: Mapping[str, PortraitMetric] = metrics) -> dict[str, Any]:
        return _estimates(some, judged, names, judge)

    # Measure the bounds.
    each = {name: metric for name, metric in metrics.items() if not metric.of_set}
    bounds = {
        name: estimates(judged, metrics if len(set(rows)) == len(rows) else each)
        for name, (judged, rows) in _stand_ins(truth, portraits, photos, seen, names).items()
    }
    decoded = side_by_side(
        lambda part: model.backbone.decode(part.to(device)).float(),
        portraits.batch.latents.split(batch_size),
        device,
        judge.precision,
    )
    returned = viewed(torch.cat([part.cpu() for part in decoded]), again=True)
    shown = {place: sample.target for place, sample in zip(place.tolist(), samples, strict=True)}
    bounds["autoencoder round trip"] = estimates(
        replace(truth, generated=returned),
        metrics if len(set(shown.values())) == len(shown) else each,
    )
    regressed = {name: metric for name, metric in metrics.items() if metric.by_regressor}
    known = _rendered_as(target, photos, samples)
    if regressed and known is not None:
        as_rendered = replace(truth, generated=target, target=known)
        bounds["regressor against truth"] = estimates(as_rendered, regressed)
    return {
        "images": len(samples),
        "identities": len(names),
        "real_photos": len(real.rows),
        "faceless": int((~generated.has_face).sum()),
        "metrics": estimates(replace(truth, cost=cost)),
        "bounds": bounds,
    }


class _PhotoViews:
    """Views of all photos of the samples, each measured by the judge once.

    Where pictures show more than a portrait, photos that results are compared with are seen by
    their close-ups, and targets and other photos as pictures.
    """

    def __init__(
        self, judge: Judge, photos: PhotoSet, samples: Sequence[Sample], wanted: Collection[str]
    ) -> None:
        store = photos.store
        aimed = {row for each in samples for row in (each.target, each.other) if row is not None}
        compared = {row for each in samples for row in (*each.references, *each.judges)}
        if not store.close_ups:
            aimed = compared = aimed | compared
        self.near = _place(compared)
        close = _in_parts(store.views if store.close_ups else store.images, self.near, judge)
        self.close = judge.view(close, True, wanted)
        self.far, self.whole = self.near, self.close
        if store.close_ups:
            self.far = _place(aimed)
            rows = torch.tensor(list(self.far))
            points = photos.features.geometry[rows].keypoints
            pictures = store.images(rows)
            size, places = store.view_size, torch.arange(len(rows))
            self.whole = view_people(judge, pictures, places, points, size, True, wanted)

    def of(self, rows: Sequence[int]) -> View:
        """Return the views [B] of targets and other photos [B]."""
        return self.whole[[self.far[row] for row in rows]]

    def up_to_as_many(self, rows: Sequence[Sequence[int]]) -> View:
        """Return views [B, R] of up to R photos each; has_face is False where there are fewer."""
        places = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
        known = torch.zeros(places.shape, dtype=torch.bool)
        for number, own in enumerate(rows):
            places[number, : len(own)] = torch.tensor([self.near[row] for row in own])
            known[number, : len(own)] = True
        view = self.close[places]
        return replace(view, has_face=view.has_face & known)


def _stand_ins(
    truth: Judged, portraits: Portraits, photos: PhotoSet, seen: _PhotoViews, names: Sequence[str]
) -> dict[str, tuple[Judged, Sequence[int]]]:
    """Replace the portraits by real photos, for each bound; return also the rows of these."""
    samples = portraits.samples
    first = {sample.identity: sample.target for sample in reversed(samples)}
    following = dict(zip(names, [*names[1:], names[0]], strict=True))
    strangers = [first[following[sample.identity]] for sample in samples]
    found: dict[str, tuple[Judged, Sequence[int]]] = {}
    # Leave the bound out if there is nobody else, or if a stranger's target shows the person.
    if all(
        photos.store.identity[row] != sample.identity
        for row, sample in zip(strangers, samples, strict=True)
    ):
        found["another identity"] = replace(truth, generated=seen.of(strangers)), strangers
    others = {number: each.other for number, each in enumerate(samples) if each.other is not None}
    if others:
        rows = list(others.values())
        found["real other photo"] = replace(truth[list(others)], generated=seen.of(rows)), rows
    return found


def _rendered_as(target: View, photos: PhotoSet, samples: Sequence[Sample]) -> View | None:
    """Return the targets' views with true expression and pose; None for real photos."""
    try:
        true = photos.store.true_coefficients([sample.target for sample in samples])
    except ValueError:
        return None
    return replace(target, expression=true.expression, pose=true.pose[:, :3])


def _true_light(photos: PhotoSet, samples: Sequence[Sample]) -> Tensor | None:
    """Return the light that the targets were rendered in, Judged.light; None for real photos."""
    try:
        return photos.store.true_light([sample.target for sample in samples])
    except ValueError:
        return None


def _place(rows: Iterable[int]) -> dict[int, int]:
    """Number rows in their order."""
    return {row: number for number, row in enumerate(sorted(rows))}


def _in_parts(
    read: Callable[[Sequence[int]], Tensor], rows: Iterable[int], judge: Judge
) -> Iterator[Tensor]:
    """Read photos in batches of the judge's size."""
    listed, size = list(rows), judge.batch_size
    return (read(listed[start : start + size]) for start in range(0, len(listed), size))


def _estimates(
    metrics: Mapping[str, PortraitMetric],
    judged: Judged,
    names: Sequence[str],
    judge: Judge,
) -> dict[str, Any]:
    """Compute every metric as plain numbers; by_identity has names, by_judge recognisers."""
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
            "method": metric.method.format_map(judge.titles),
            "without_a_face": metric.missed,
        }
        if estimate.by_identity is not None:
            estimates[name]["by_identity"] = {
                names[number]: _number(value) for number, value in estimate.by_identity.items()
            }
        if estimate.by_judge is not None:
            estimates[name]["by_judge"] = [
                {"recogniser": title, "value": _number(value)}
                for title, value in zip(judge.recognisers, estimate.by_judge, strict=True)
            ]
    return estimates


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)
