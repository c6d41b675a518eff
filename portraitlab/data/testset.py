"""The samples of scoring: fixed targets, references and noise of held-out identities."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from portraitlab.data.photo_set import PhotoSet
from portraitlab.data.photos import Photos
from portraitlab.data.templates import spread_poses
from portraitlab.method.select.selection import TARGET, Selection
from portraitlab.types import Batch, Candidates

TargetsOf = Literal["own", "others", "templates"]
"""Targets: photos of the person, of a stranger, or the same pose templates for everyone."""

Judges = int | Literal["references"]
"""Photos of a person to compare results with: a number of reserved ones, or the references."""

MOST_REFERENCES = 6
"""Largest number of references; a person with enough photos keeps as many beside the judges."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """An image to generate; photos are rows of the photo store.

    references: photos that the image is conditioned on. shape_reference: the photo whose 3D shape
    is used for the landmarks (the target itself with select=target). judges: photos of the
    identity that results are compared with, neither references nor the target, or with
    judges="references" the references. other: one more photo of the identity without a flaw,
    neither target nor judge, or None. seed: of the noise, in 0..2^32-1. scene: name of a target
    that shows several people, each of whom has a sample of it; empty for one person.
    """

    identity: str
    target: int
    references: tuple[int, ...]
    shape_reference: int
    judges: tuple[int, ...]
    seed: int
    caption: str
    other: int | None = None
    scene: str = ""


@dataclass(frozen=True)
class RealPhotos:
    """A set of real photos that FID compares with, by rows of a store."""

    store: Photos
    rows: Sequence[int]


def string_seed(*parts: object) -> int:
    """Return a seed in 0..2^32-1 from printable parts, the same on every machine."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def target_name(store: Photos, sample: Sample) -> str:
    """Return the name of a sample's target, prefixed by the identity if it is another person's."""
    identity, name = store.identity[sample.target], store.name[sample.target]
    return name if identity == sample.identity else f"{identity}/{name}"


@dataclass(frozen=True)
class _Aim:
    """A target: its row, its caption and the seed of a noise."""

    target: int
    caption: str
    seed: int


def _with_targets_of_others(
    samples: list[Sample], aims: Mapping[str, Sequence[_Aim]], seed: int
) -> list[Sample]:
    """Replace targets by those of the person half the list away.

    aims: of all people, including those with too few photos to be scored, so that the assignment
    does not depend on the number of references.
    """
    people = list(aims)
    if len(people) < 2:
        raise ValueError(
            f"data.targets_of=others needs two held-out identities, and there is {len(people)}; "
            "add people, or take data.targets_of=own"
        )
    away = len(people) // 2
    other = dict(zip(people, people[away:] + people[:away], strict=True))
    each = len(aims[people[0]])
    return [
        replace(
            sample,
            target=aim.target,
            shape_reference=aim.target,
            caption=aim.caption,
            seed=string_seed(seed, sample.identity, other[sample.identity], aim.seed),
        )
        for number, sample in enumerate(samples)
        for aim in [aims[other[sample.identity]][number % each]]
    ]


class ScoringSet:
    """The samples of all identities of a PhotoSet, the same for every row of a table.

    The photos of an identity are shuffled with a seed. Of those without a flaw, the last `targets`
    are targets and the `judges` before them are judges; references are the first `refs` of the
    rest, flawed or not. So targets, noise and judges do not depend on refs, and the references of
    refs=1 are among those of refs=4. An identity with few photos has fewer judges, at least one, so
    that six references are left where possible. Every target is generated from `noise_seeds`
    different noises.

    judges: their number, or "references" to judge by the references as in the paper (Sec. 4.1),
    which rewards copying one.

    targets_of: `own`, a person's own photos; `others`, those of the person half the list away,
    whose expression, pose and caption are used and who must not be recognised (HiFi-Portrait, Sec.
    4.1: targets are strangers' photos); or `templates`, the same `targets` photos of strangers for
    everyone, of the most varied head directions and sizes (FaceSnap, Sec. 3.2). A template of the
    person's own is replaced by the next most varied photo.

    Of photos with scenes, the targets are the pictures of several people. There is a sample for
    each person of a picture, and these follow each other; `pictures` has them together.

    An identity with fewer than targets + refs + 1 photos, or too few without a flaw, is left out
    with one line in the log.

    Raises ValueError if no identity is left, or if targets of others need a second identity.
    """

    def __init__(
        self,
        photos: PhotoSet,
        refs: int,
        select: Selection,
        seed: int = 0,
        targets: int = 1,
        judges: Judges = 4,
        noise_seeds: int = 1,
        targets_of: TargetsOf = "own",
    ) -> None:
        if refs < 1:
            raise ValueError(f"refs={refs} must be at least 1: a sample needs a reference.")
        self.photos = photos
        self.refs = refs
        self.seed = seed
        self.targets_of = targets_of
        own = 1 if targets_of == "templates" else targets
        need = own + refs + 1
        needs = f"{need} photos (targets={own}, refs={refs}, and 1 to judge by)"
        members = photos.rows()
        scene = photos.store.scene
        several = any(scene)
        samples: list[Sample] = []
        aims: dict[str, list[_Aim]] = {}
        for identity, own_rows in members.items():
            scenes = [row for row in own_rows if scene[row]]
            rows = [row for row in own_rows if not scene[row]]
            if several and not scenes:
                continue
            # Shuffle the photos, and take targets from the end.
            order = np.random.default_rng(string_seed(seed, identity)).permutation(len(rows))
            ordered = [rows[place] for place in order]
            sound = [row for row in reversed(ordered) if not photos.store.flawed[row]]
            targeted = scenes[:own] if several else sound[:own]
            if len(targeted) == own:
                aims[identity] = [
                    _Aim(
                        target,
                        photos.store.caption[target],
                        string_seed(seed, *_named(photos.store, target), noise),
                    )
                    for target in targeted
                    for noise in range(noise_seeds)
                ]
            if len(rows) < need:
                _LOG.warning(
                    "not scored: identity %s has %d photos, needs %s", identity, len(rows), needs
                )
                continue

            # Split the rest into judges and references.
            most = max(1, len(rows) - own - MOST_REFERENCES)
            judged = min(1 if judges == "references" else judges, most)
            judging = [row for row in sound if row not in targeted][:judged]
            left = [row for row in ordered if row not in targeted and row not in judging]
            if identity not in aims or not judging:
                _LOG.warning(
                    "not scored: identity %s has too few photos without a flaw to aim at and to "
                    "judge by",
                    identity,
                )
                continue
            samples += [
                Sample(
                    identity=identity,
                    target=aim.target,
                    references=tuple(left[:refs]),
                    shape_reference=aim.target,
                    judges=tuple(left[:refs] if judges == "references" else judging),
                    seed=aim.seed,
                    caption=aim.caption,
                    other=next((row for row in reversed(left) if row in sound), None),
                    scene=scene[aim.target],
                )
                for aim in aims[identity]
            ]
        if not samples:
            largest = max(members, key=lambda identity: len(members[identity]))
            if len(members[largest]) >= need:
                raise ValueError(
                    f"none of the {len(members)} identities held out has enough photos without a "
                    f"flaw: targets={own} to aim at, and 1 to judge by beside refs={refs} "
                    "references. Add photos."
                )
            raise ValueError(
                f"refs={refs} is too many for the photos at hand: scoring needs an identity with "
                f"{needs}, and the largest held out, {largest}, has {len(members[largest])}. "
                "Lower refs or add photos."
            )
        self._aims = aims
        if targets_of == "others":
            samples = _with_targets_of_others(samples, aims, seed)
        elif targets_of == "templates":
            samples = self._with_templates(samples, targets, noise_seeds)
        # Bring the people of a picture together.
        samples.sort(key=lambda sample: (sample.scene, sample.seed) if sample.scene else ())
        self.samples = self._with_shapes(samples, select, seed)

    def _with_templates(
        self, samples: list[Sample], targets: int, noise_seeds: int
    ) -> list[Sample]:
        """Aim each person at the pose templates, in place of the own photo and its noises."""
        store, geometry = self.photos.store, self.photos.features.geometry
        members = self.photos.rows()
        rows = [row for rows in members.values() for row in rows if not store.flawed[row]]
        # A person may own all of the first templates.
        most = targets + max(map(len, members.values()))
        ranked = [rows[place] for place in spread_poses(geometry[rows].keypoints, most)]
        aimed = []
        for sample in {sample.identity: sample for sample in samples}.values():
            strangers = [row for row in ranked if store.identity[row] != sample.identity]
            if len(strangers) < targets:
                raise ValueError(
                    f"data.targets_of=templates needs data.targets={targets} photos of strangers "
                    f"without a flaw, and {sample.identity} has {len(strangers)}; lower "
                    "data.targets or add people"
                )
            aimed += [
                replace(
                    sample,
                    target=row,
                    shape_reference=row,
                    caption=store.caption[row],
                    seed=string_seed(
                        self.seed, sample.identity, store.identity[row], store.name[row], noise
                    ),
                )
                for row in strangers[:targets]
                for noise in range(noise_seeds)
            ]
        return aimed

    def _with_shapes(
        self, samples: list[Sample], select: Selection, seed: int
    ) -> tuple[Sample, ...]:
        geometry, name = self.photos.features.geometry, self.photos.store.name
        references = torch.tensor([sample.references for sample in samples])
        scorer = select.quality
        quality = None if scorer is None else self.photos.quality(scorer, references)
        candidates = Candidates(
            references=geometry[references],
            mask=torch.ones_like(references, dtype=torch.bool),
            target=geometry[[sample.target for sample in samples]],
            quality=quality,
            identities=[sample.identity for sample in samples],
            photos=[[name[row] for row in sample.references] for sample in samples],
            target_photos=[target_name(self.photos.store, sample) for sample in samples],
        )
        generator = torch.Generator().manual_seed(string_seed(seed, "select"))
        chosen = select.choose(candidates, generator)
        return tuple(
            sample if index == TARGET else replace(sample, shape_reference=sample.references[index])
            for sample, index in zip(samples, chosen.tolist(), strict=True)
        )

    def __len__(self) -> int:
        return len(self.samples)

    def pictures(self) -> list[list[Sample]]:
        """Return the samples of each picture, one for each of its people."""
        pictures: list[list[Sample]] = []
        for place, sample in zip(picture_places(self.samples), self.samples, strict=True):
            if place == len(pictures):
                pictures.append([])
            pictures[place].append(sample)
        return pictures

    def in_strangers_poses(self, people: int) -> ScoringSet:
        """Return one sample of each of the first `people` people, with the target of a stranger.

        Shapes are those of the selected references. If nobody else has targets, their own is kept.
        Of pictures of several people, the first `people` pictures are returned as they are.
        """
        if any(sample.scene for sample in self.samples):
            made = copy(self)
            made.samples = tuple(sample for some in self.pictures()[:people] for sample in some)
            return made
        first: dict[str, Sample] = {}
        for sample in self.samples:
            first.setdefault(sample.identity, sample)
        posed = list(first.values())
        if self.targets_of == "own" and len(self._aims) > 1:
            posed = [
                carried
                if own.shape_reference == own.target
                else replace(carried, shape_reference=own.shape_reference)
                for own, carried in zip(
                    posed, _with_targets_of_others(posed, self._aims, self.seed), strict=True
                )
            ]
        made = copy(self)
        made.samples = tuple(posed[:people])
        return made

    def unaimed(self, number: int) -> RealPhotos:
        """Return up to `number` photos without a flaw that are not used in samples or bounds.

        They are neither targets nor any sample's other photo, in a seeded order.
        """
        store = self.photos.store
        taken = {row for sample in self.samples for row in (sample.target, sample.other)}
        rows = [
            row
            for rows in self.photos.rows().values()
            for row in rows
            if row not in taken and not store.flawed[row]
        ]
        order = np.random.default_rng(string_seed(self.seed, "real")).permutation(len(rows))
        return RealPhotos(store, [rows[place] for place in order[:number]])

    def batches(self, batch_size: int) -> Iterator[tuple[Batch, list[Sample]]]:
        """Yield all pictures in order in batches of up to batch_size, each with its prompt.

        Beside the batch are the samples of each picture's first person. Pictures of several people
        have as many places for people as the largest of the set.
        """
        pictures = self.pictures()
        most = max(map(len, pictures))
        several = any(sample.scene for sample in self.samples)
        for start in range(0, len(pictures), batch_size):
            some = pictures[start : start + batch_size]
            # Fill the places of people who are not there with the first person's photos.
            filled = [[*people, *[people[0]] * (most - len(people))] for people in some]
            number = torch.tensor([[len(people)] for people in some])
            there = torch.arange(most) < number
            targets, references, shapes = (
                torch.tensor([[read(sample) for sample in people] for people in filled])
                for read in (
                    lambda sample: sample.target,
                    lambda sample: sample.references,
                    lambda sample: sample.shape_reference,
                )
            )
            mask = there[..., None].expand(references.shape)
            if not several:
                targets, references, shapes, mask = (
                    each[:, 0] for each in (targets, references, shapes, mask)
                )
            without_prompt = torch.zeros(len(some), dtype=torch.bool)
            seeds = torch.tensor([people[0].seed for people in some])
            batch = self.photos.gather(targets, references, mask, shapes, without_prompt, seeds)
            yield batch, [people[0] for people in some]


def picture_places(samples: Sequence[Sample]) -> list[int]:
    """Number the pictures of samples, where those of one picture follow each other."""
    places: list[int] = []
    last = None
    for sample in samples:
        same = sample.scene and last == (sample.scene, sample.seed)
        places.append((places[-1] if places else -1) + (not same))
        last = sample.scene, sample.seed
    return places


def _named(store: Photos, row: int) -> tuple[str, ...]:
    """Return the name of a target, the same for all people of a picture."""
    return (store.scene[row],) if store.scene[row] else (store.identity[row], store.name[row])
