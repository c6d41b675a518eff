"""The samples of scoring: fixed targets, references and noise of held-out identities."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from portraitlab.data.photo_set import PhotoSet
from portraitlab.data.photos import Photos
from portraitlab.data.targets import Aim, aims_of_others, own_aims, string_seed, template_aims
from portraitlab.method.select.selection import TARGET, Selection
from portraitlab.support.checks import check_whole
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

    def aimed_at(self, aim: Aim) -> Sample:
        """Return the sample with another target, which also gives the shape."""
        return replace(self, **vars(aim), shape_reference=aim.target)


@dataclass(frozen=True)
class RealPhotos:
    """A set of real photos that FID compares with, by rows of a store."""

    store: Photos
    rows: Sequence[int]


def target_name(store: Photos, sample: Sample) -> str:
    """Return the name of a sample's target, prefixed by the identity if it is another person's."""
    identity, name = store.identity[sample.target], store.name[sample.target]
    return name if identity == sample.identity else f"{identity}/{name}"


def _aimed(samples: Sequence[Sample], aims: Mapping[str, Sequence[Aim]]) -> list[Sample]:
    """Give samples other targets, the aims of each person in turn."""
    given = [aims[sample.identity] for sample in samples]
    return [
        sample.aimed_at(own[number % len(own)])
        for number, (sample, own) in enumerate(zip(samples, given, strict=True))
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
        check_whole("refs", refs)
        self.photos = photos
        self.refs = refs
        self.seed = seed
        self.targets_of = targets_of
        self._aims: dict[str, list[Aim]] = {}
        # Aim everyone at their own photos, then at those of strangers where these are the targets.
        own = 1 if targets_of == "templates" else targets
        samples = self._own_samples(own, judges, noise_seeds)
        if targets_of == "others":
            samples = _aimed(samples, aims_of_others(self._aims, seed))
        elif targets_of == "templates":
            people = {sample.identity: sample for sample in samples}
            aims = template_aims(photos, people, targets, seed, noise_seeds)
            samples = [
                sample.aimed_at(aim) for name, sample in people.items() for aim in aims[name]
            ]
        # Bring the people of a picture together.
        samples.sort(key=lambda sample: (sample.scene, sample.seed) if sample.scene else ())
        self.samples = self._with_shapes(samples, select, seed)

    def _own_samples(self, targets: int, judges: Judges, noise_seeds: int) -> list[Sample]:
        """Make the samples of each identity with targets of its own, and collect all aims."""
        members, store = self.photos.rows(), self.photos.store
        scene = store.scene
        several = any(scene)
        need = targets + self.refs + 1
        needs = f"{need} photos (targets={targets}, refs={self.refs}, and 1 to judge by)"
        samples: list[Sample] = []
        for identity, rows in members.items():
            scenes = [row for row in rows if scene[row]]
            if several and not scenes:
                continue
            # Shuffle the photos, and take targets from the end.
            photos = [row for row in rows if not scene[row]]
            order = np.random.default_rng(string_seed(self.seed, identity)).permutation(len(photos))
            photos = [photos[place] for place in order]
            sound = [row for row in reversed(photos) if not store.flawed[row]]
            targeted = scenes[:targets] if several else sound[:targets]
            if len(targeted) == targets:
                self._aims[identity] = own_aims(store, targeted, self.seed, noise_seeds)
            if len(photos) < need:
                _LOG.warning(
                    "identity %s is not scored: it has %d photos, and needs %s",
                    identity, len(photos), needs,
                )  # fmt: skip
                continue

            # Split the rest into judges and references.
            most = max(1, len(photos) - targets - MOST_REFERENCES)
            judged = min(1 if judges == "references" else judges, most)
            judging = [row for row in sound if row not in targeted][:judged]
            left = [row for row in photos if row not in targeted and row not in judging]
            if identity not in self._aims or not judging:
                _LOG.warning(
                    "identity %s is not scored: too few photos without a flaw for a target and a "
                    "judge",
                    identity,
                )
                continue
            references = tuple(left[: self.refs])
            samples += [
                Sample(
                    identity=identity,
                    references=references,
                    judges=references if judges == "references" else tuple(judging),
                    other=next((row for row in reversed(left) if row in sound), None),
                    scene=scene[aim.target],
                    shape_reference=aim.target,
                    **vars(aim),
                )
                for aim in self._aims[identity]
            ]
        if samples:
            return samples
        largest = max(members, key=lambda identity: len(members[identity]))
        if len(members[largest]) < need:
            raise ValueError(
                f"refs={self.refs} is too many: scoring needs an identity with {needs}; the "
                f"largest held-out identity, {largest}, has {len(members[largest])}. Lower refs or "
                "add photos."
            )
        raise ValueError(
            f"No held-out identity (of {len(members)}) has targets={targets} and 1 judging "
            f"photo without a flaw beside refs={self.refs} references. Add photos."
        )

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
        made = copy(self)
        if any(sample.scene for sample in self.samples):
            made.samples = tuple(sample for some in self.pictures()[:people] for sample in some)
            return made
        first: dict[str, Sample] = {}
        for sample in self.samples:
            first.setdefault(sample.identity, sample)
        posed = list(first.values())
        if self.targets_of == "own" and len(self._aims) > 1:
            strangers = _aimed(posed, aims_of_others(self._aims, self.seed))
            posed = [
                carried
                if own.shape_reference == own.target
                else replace(carried, shape_reference=own.shape_reference)
                for own, carried in zip(posed, strangers, strict=True)
            ]
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
                torch.tensor([[getattr(sample, field) for sample in people] for people in filled])
                for field in ("target", "references", "shape_reference")
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
