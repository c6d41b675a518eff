"""Training batches as a pure function of seed and step (HiFi-Portrait, Sec. 3.3 and 4.1)."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from portraitlab.data.balanced import BalancedOrder
from portraitlab.data.photo_set import PhotoSet
from portraitlab.data.photos import Members
from portraitlab.method.select.random import RandomReference
from portraitlab.support.checks import check_choice, check_whole
from portraitlab.types import Batch, Candidates

Order = Literal["shuffled", "balanced"]
"""The order of identities: drawn at random for each sample, or all of them in turn."""


class TrainingBatches(Dataset[Batch]):
    """Batches of training steps: `batches[step]` is a pure function of seed and step.

    Each sample draws an identity, one of its photos as the target and N others as references, all
    with equal probability. The target is a photo without a flaw unless all have one; references
    may be flawed. N is 1 to `refs` (at most all other photos); the remaining reference slots are
    masked. One reference, drawn at random, gives the shape of the landmarks. The prompt is empty
    with probability `prompt_dropout`.

    target_as_reference: True draws the references from all photos of the identity, the target among
    them, as FaceSnap trains; then an identity with one photo suffices.

    order: `balanced` takes identities and targets in turn (BalancedOrder), sample s of a step at
    place `step * batch_size + s`; all else is drawn as above.

    batch_size: samples of one step over all devices. Rank r of `world_size` takes samples r,
    r + world_size, …, so the samples do not depend on the number of devices.

    Raises ValueError if no identity has enough photos, or for an unknown order.
    """

    def __init__(
        self,
        photos: PhotoSet,
        refs: int,
        batch_size: int,
        steps: int,
        seed: int,
        prompt_dropout: float = 0.1,
        order: Order = "shuffled",
        target_as_reference: bool = False,
    ) -> None:
        check_choice("order", order, get_args(Order))
        check_whole("refs", refs)
        members = photos.members()
        beside = 0 if target_as_reference else 1  # photos beside the references
        most = int(members.counts.max(initial=0))
        if most < refs + beside:
            raise ValueError(
                f"refs={refs} is too many: training needs an identity with {refs + beside} photos, "
                f"and the largest has {most}. Lower refs or add photos."
            )
        pairs = members.counts > beside  # identities that can be drawn
        # Keep the settings; the Trainer sets rank and world size.
        self.photos = photos
        self.refs = refs
        self.batch_size = batch_size
        self.steps = steps
        self.seed = seed
        self.prompt_dropout = prompt_dropout
        self.target_as_reference = target_as_reference
        self.rank = 0
        self.world_size = 1
        # Keep the photos of the identities that can be drawn as flat arrays.
        self._counts = torch.from_numpy(members.counts[pairs])
        self._starts = torch.from_numpy(members.starts[pairs])
        self._places = torch.arange(most)
        self._flawed = torch.as_tensor(photos.store.flawed)
        self._turns: BalancedOrder | None = None
        rows = members.rows
        if order == "balanced":
            rows, targets = _sound_first(members, self._flawed.numpy())
            self._turns = BalancedOrder(targets[pairs], seed)
        self._rows = torch.from_numpy(rows)

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Batch:
        """Return this rank's share of the batch of a step in 0..steps-1."""
        return self.photos.gather(*self._share(step))

    def pairs(self, step: int) -> Tensor:
        """Return rows [B, 2] of the photos that give the shape, and the expression and pose."""
        targets, _, _, shape_rows, *_ = self._share(step)
        return torch.stack([shape_rows, targets], dim=1)

    def _share(self, step: int) -> tuple[Tensor, ...]:
        draws = self._draw(step)
        return tuple(draw[self.rank :: self.world_size] for draw in draws)

    def _draw(self, step: int) -> tuple[Tensor, ...]:
        """Draw the arguments of PhotoSet.gather for the whole batch of a step."""
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} is outside 0..{self.steps - 1}")
        # Seed by the step alone.
        entropy = np.random.SeedSequence([self.seed, step]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(entropy[0] >> 1))
        size = self.batch_size
        # Draw an identity for each sample.
        identity = torch.randint(len(self._counts), (size,), generator=generator)
        if self._turns is not None:
            turns = self._turns.at(np.arange(step * size, (step + 1) * size))
            identity, turn = map(torch.from_numpy, turns)
        # List the rows of its photos, padded to the largest identity.
        count = self._counts[identity]
        there = self._places < count[:, None]
        rows = self._rows[(self._starts[identity, None] + self._places) * there] * there
        # Shuffle each identity's photos; the padding sorts last.
        keys = torch.rand(rows.shape, generator=generator)
        keys[~there] = 2.0
        # The target is the first photo without a flaw, or the one whose turn it is.
        first = (keys + self._flawed[rows].float()).argmin(1) if self._turns is None else turn
        keys[torch.arange(size), first] = -1.0
        rows = rows.gather(1, keys.argsort(dim=1))
        targets, pool = rows[:, 0], rows[:, 1:]
        if self.target_as_reference:
            keys = torch.rand(rows.shape, generator=generator)
            keys[self._places >= count[:, None]] = 2.0
            pool, count = rows.gather(1, keys.argsort(dim=1)), count + 1
        references = pool[:, : self.refs]
        # Draw how many references there are.
        most = (count - 1).clamp(max=self.refs)
        number = 1 + (torch.rand(size, generator=generator) * most).long()
        mask = torch.arange(self.refs) < number[:, None]
        # Draw the reference that gives the shape, and drop prompts.
        geometry = self.photos.features.geometry
        candidates = Candidates(geometry[references], mask, geometry[targets])
        chosen = RandomReference().choose(candidates, generator)
        shape_rows = references.gather(1, chosen[:, None])[:, 0]
        without_prompt = torch.rand(size, generator=generator) < self.prompt_dropout
        seeds = torch.randint(2**31, (size,), generator=generator)
        return targets, references, mask, shape_rows, without_prompt, seeds


def _sound_first(
    members: Members, flawed: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sort each identity's rows so that photos without a flaw come first, and count the targets.

    Targets are the photos without a flaw, or all photos of an identity whose photos all have one.
    """
    owner = np.repeat(np.arange(len(members.counts)), members.counts)
    bad = flawed[members.rows]
    sound = np.bincount(owner[~bad], minlength=len(members.counts))
    return members.rows[np.lexsort((bad, owner))], np.where(sound, sound, members.counts)
