"""Batches of pictures of several people, made of tiny batches of one person."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from tiny import make_batch
from torch import Tensor

from portraitlab.types import Batch


def side_by_side(batch: int, people: int, size: int) -> Tensor:
    """Regions [batch, people, size, size]: upright strips with a free column between them."""
    areas = torch.zeros(batch, people, size, size, dtype=torch.bool)
    wide = size // people
    for person in range(people):
        areas[:, person, 2 : size - 2, person * wide : (person + 1) * wide - size // 8] = True
    return areas


def make_crowd(batch: int = 2, people: int = 2, size: int = 16, **settings: Any) -> Batch:
    """Random pictures of `people` people for `make_backbone`, each in a region of their own."""
    own = make_batch(batch=batch, size=size, **settings)
    every = make_batch(seed=1, batch=batch * people, size=size, **settings)

    def of_each(record: Any) -> Any:
        return record.changed(lambda tensor: tensor.unflatten(0, (batch, people)))

    return replace(
        own,
        references=of_each(every.references),
        shape_geometry=of_each(every.shape_geometry),
        target_geometry=of_each(every.target_geometry),
        regions=side_by_side(batch, people, size),
    )


def with_references_of(batch: Batch, sample: int, person: int, value: float) -> Batch:
    """Add `value` to the features of the unmasked references of one person."""
    references = batch.references
    known = references.mask[sample, person]
    local, global_ = references.local_.clone(), references.global_.clone()
    local[sample, person][known] += value
    global_[sample, person][known] -= value
    return replace(batch, references=replace(references, local_=local, global_=global_))


def without_person(batch: Batch, sample: int, person: int) -> Batch:
    """Mask all references of a person who is not in the picture."""
    mask, score = batch.references.mask.clone(), batch.target_geometry.score.clone()
    mask[sample, person], score[sample, person] = False, 0
    return replace(
        batch,
        references=replace(batch.references, mask=mask),
        target_geometry=replace(batch.target_geometry, score=score),
    )
