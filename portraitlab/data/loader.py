"""Training batches for a Trainer: from its current step, each rank its share."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Sampler

from portraitlab.data.ahead import Encode, EncodedAhead
from portraitlab.data.batches import TrainingBatches
from portraitlab.support.devices import check_batch
from portraitlab.types import Batch


class _StepsFrom(Sampler[int]):
    """Step numbers from `start`.

    The length includes the steps already done: Lightning continues the count of the checkpoint.
    """

    def __init__(self, start: int, steps: int) -> None:
        self.start = start
        self.steps = steps

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.start, self.steps))

    def __len__(self) -> int:
        return self.steps


class PortraitData(LightningDataModule):
    """A data module with this rank's share of each batch, from the Trainer's current step.

    The Trainer needs `use_distributed_sampler=False` and, because one epoch contains all steps,
    `max_steps` equal to `batches.steps`. encode, numbers, device: see EncodedAhead; without encode
    batches have no control images yet.
    """

    def __init__(
        self,
        batches: TrainingBatches,
        encode: Encode | None = None,
        numbers: int | None = None,
        device: torch.device | None = None,
    ) -> None:
        super().__init__()
        self.batches = batches
        self.encode = encode
        self.numbers = numbers
        self.device = torch.device("cpu") if device is None else device

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return one batch a step. Raises ValueError if the devices cannot share it evenly."""
        assert self.trainer is not None
        batches, devices = self.batches, self.trainer.world_size
        check_batch(batches.batch_size, devices)
        batches.rank, batches.world_size = self.trainer.global_rank, devices
        # Lightning cannot know that these batches resume exactly at the checkpoint's step.
        warnings.filterwarnings("ignore", "You're resuming from a checkpoint that ended before")
        steps = _StepsFrom(self.trainer.global_step, batches.steps)
        if self.encode is None:
            return DataLoader(batches, batch_size=None, sampler=steps)
        ahead = EncodedAhead(batches, self.encode, self.numbers, device=self.device)
        if steps.start < steps.steps:
            ahead.encode_from(steps.start, show=self.trainer.is_global_zero)
        return DataLoader(ahead, batch_size=None, sampler=steps)

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Return the batch on the Trainer's device."""
        return batch.to(device)
