"""Control images of coming steps, drawn and encoded together before they are needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from rich.progress import track
from torch import Tensor
from torch.utils.data import Dataset

from portraitlab.data.batches import TrainingBatches
from portraitlab.support.side_by_side import side_by_side
from portraitlab.types import Batch, FaceGeometry

Encode = Callable[[FaceGeometry, FaceGeometry], Tensor | None]
"""Takes geometries of shape and target [B] to control images as the net reads them; None: none."""

_AT_ONCE = 16
_CPU = torch.device("cpu")
_MEMORY = 2**28  # bytes of control images that are held


class EncodedAhead(Dataset[Batch]):
    """Training batches with control images, each pair of photos drawn and encoded only once.

    Which photos meet in which step is known beforehand, so the control images of all steps, or of
    as many as fit in `memory` bytes, are encoded before the first of them: in larger batches than
    a step's, and once where a pair comes back. numbers: of one control image as the net reads it;
    None: as many as a photo's latents. device: of the model that encodes.
    """

    def __init__(
        self,
        batches: TrainingBatches,
        encode: Encode,
        numbers: int | None = None,
        memory: int = _MEMORY,
        device: torch.device = _CPU,
    ) -> None:
        self.batches = batches
        self.encode = encode
        self.device = device
        latents = batches.photos.features.latents[[0]]
        one = (latents.numel() if numbers is None else numbers) * latents.element_size()
        self.most = max(1, memory // one)
        self._drawn: Tensor | None = None
        self._places: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, step: int) -> Batch:
        """The batch of a step in 0..steps-1; its drawing None where cond draws nothing."""
        batch = self.batches[step]
        if step not in self._places:
            self.encode_from(step)
        if self._drawn is None:
            return batch
        return replace(batch, drawing=self._drawn[self._places[step]])

    def encode_from(self, step: int, show: bool = False) -> None:
        """Encode for this step and those after it, as many as there is memory for.

        show: with a progress bar.
        """
        known: set[tuple[int, int]] = set()
        steps: dict[int, Tensor] = {}
        for later in range(step, len(self)):
            pairs = self.batches.pairs(later)
            new = {(shape, target) for shape, target in pairs.tolist()} - known
            if steps and len(known) + len(new) > self.most:
                break
            known |= new
            steps[later] = pairs
        distinct, places = torch.cat(list(steps.values())).unique(dim=0, return_inverse=True)
        self._drawn = self._encode(distinct, show)
        self._places = dict(zip(steps, places.split([len(p) for p in steps.values()]), strict=True))

    @torch.no_grad()
    def _encode(self, pairs: Tensor, show: bool) -> Tensor | None:
        geometry = self.batches.photos.features.geometry
        # Always as many at once: how products are rounded depends on a batch's size, and a resumed
        # training, which has fewer pairs left, is to go on with the same numbers.
        padded = pairs[torch.arange(-(-len(pairs) // _AT_ONCE) * _AT_ONCE) % len(pairs)]
        parts = padded.split(_AT_ONCE)

        def encoded(part: Tensor) -> Tensor | None:
            drawn = self.encode(geometry[part[:, 0]], geometry[part[:, 1]])
            return None if drawn is None else drawn.float().cpu()

        pieces = []
        done = side_by_side(encoded, parts, self.device)
        for piece in track(done, "Encoding control images", total=len(parts), disable=not show):
            if piece is None:
                return None
            pieces.append(piece)
        return torch.cat(pieces)[: len(pairs)]
