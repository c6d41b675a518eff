"""The targets of scored people: their own photos, strangers' photos, or pose templates."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from portraitlab.data.photo_set import PhotoSet
from portraitlab.data.photos import Photos


@dataclass(frozen=True)
class Aim:
    """A target to generate: its row, its caption and the seed of a noise."""

    target: int
    caption: str
    seed: int


def string_seed(*parts: object) -> int:
    """Return a seed in 0..2^32-1 from printable parts, the same on every machine."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def own_aims(store: Photos, rows: Sequence[int], seed: int, noises: int) -> list[Aim]:
    """Aim at a person's own photos, each with several noises.

    A noise depends on the target's name, which is the same for all people of a picture.
    """
    aims = []
    for row in rows:
        scene = store.scene[row]
        name = (scene,) if scene else (store.identity[row], store.name[row])
        for noise in range(noises):
            aims.append(Aim(row, store.caption[row], string_seed(seed, *name, noise)))
    return aims


def aims_of_others(aims: Mapping[str, Sequence[Aim]], seed: int) -> dict[str, list[Aim]]:
    """Give everyone the targets of the person half the list away.

    aims: of all people, including those with too few photos to be scored, so that the assignment
    does not depend on the number of references. Raises ValueError for a single person.
    """
    people = list(aims)
    if len(people) < 2:
        raise ValueError(
            f"data.targets_of=others needs two held-out identities, and there is {len(people)}; "
            "add people, or take data.targets_of=own"
        )
    away = len(people) // 2
    return {
        person: [
            replace(aim, seed=string_seed(seed, person, stranger, aim.seed))
            for aim in aims[stranger]
        ]
        for person, stranger in zip(people, people[away:] + people[:away], strict=True)
    }


def template_aims(
    photos: PhotoSet, people: Iterable[str], targets: int, seed: int, noises: int
) -> dict[str, list[Aim]]:
    """Give people the pose templates, photos of varied poses (FaceSnap, Sec. 3.2).

    Raises ValueError if there are fewer than `targets` photos of strangers without a flaw.
    """
    store, members = photos.store, photos.rows()
    rows = [row for rows in members.values() for row in rows if not store.flawed[row]]
    # A person may own all of the first templates.
    most = targets + max(map(len, members.values()))
    ranked = [rows[place] for place in spread_poses(photos.features.geometry[rows].keypoints, most)]
    aims: dict[str, list[Aim]] = {}
    for person in people:
        strangers = [row for row in ranked if store.identity[row] != person]
        if len(strangers) < targets:
            raise ValueError(
                f"data.targets_of=templates needs data.targets={targets} photos of strangers "
                f"without a flaw, and {person} has {len(strangers)}; lower data.targets or add "
                "people"
            )
        aims[person] = [
            Aim(
                row,
                store.caption[row],
                string_seed(seed, person, store.identity[row], store.name[row], noise),
            )
            for row in strangers[:targets]
            for noise in range(noises)
        ]
    return aims


def spread_poses(keypoints: Tensor, count: int) -> list[int]:
    """Choose up to `count` faces that differ most in direction and size, the usual one first.

    keypoints [P, 5, 2]: FaceGeometry's. Direction is the nose's place between the eyes, size the
    distance of the eyes; each counts by its standard deviation. Every further face is the one
    farthest from all chosen ones, so that a shorter list is the beginning of a longer one.
    """
    left, right, nose = keypoints[:, 0], keypoints[:, 1], keypoints[:, 2]
    distance = (right - left).norm(dim=-1, keepdim=True).clamp(min=1e-6)
    poses = torch.cat([(nose - (left + right) / 2) / distance, distance.log()], dim=1)
    poses = (poses - poses.mean(0)) / poses.std(0, correction=0).clamp(min=1e-6)
    chosen = [int(poses.norm(dim=-1).argmin())]
    nearest = (poses - poses[chosen[0]]).norm(dim=-1)
    while len(chosen) < min(count, len(poses)):
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (poses - poses[chosen[-1]]).norm(dim=-1))
    return chosen
