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
"""Encodes shape and target geometries [B] to the net's control images; None if cond draws none."""

_AT_ONCE = 16
_CPU = torch.device("cpu")
_MEMORY = 2**28  # bytes of control images kept in memory


class EncodedAhead(Dataset[Batch]):
    """Training batches with control images, each pair of photos drawn and encoded only once.

    The pairs of photos of every step are known in advance. Control images are therefore encoded
    for all steps, or for as many as fit in `memory` bytes, before the first of them: in larger
    batches than a step's, and once for each distinct pair.

    numbers: size of one control image as the net reads it; None means that of a photo's latents.
    device: of the model that encodes.
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
        """Return the batch of a step in 0..steps-1; `drawing` is None if cond draws nothing."""
        batch = self.batches[step]
        if step not in self._places:
            self.encode_from(step)
        if self._drawn is None:
            return batch
        return replace(batch, drawing=self._drawn[self._places[step]])

    def encode_from(self, step: int, show: bool = False) -> None:
        """Encode the control images of this step and of as many later ones as fit in memory.

        show: show a progress bar.
        """
        # Collect the distinct pairs of the coming steps.
        known: set[tuple[int, int]] = set()
        steps: dict[int, Tensor] = {}
        for later in range(step, len(self)):
            pairs = self.batches.pairs(later)
            new = {(shape, target) for shape, target in pairs.tolist()} - known
            if steps and len(known) + len(new) > self.most:
                break
            known |= new
            steps[later] = pairs
        # Encode each pair once and keep where each step finds its images.
        distinct, places = torch.cat(list(steps.values())).unique(dim=0, return_inverse=True)
        self._drawn = self._encode(distinct, show)
        self._places = dict(zip(steps, places.split([len(p) for p in steps.values()]), strict=True))

    @torch.no_grad()
    def _encode(self, pairs: Tensor, show: bool) -> Tensor | None:
        geometry = self.batches.photos.features.geometry
        # Pad to full batches: rounding depends on the batch size, and a resumed training, which has
        # fewer pairs left, must get the same numbers.
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
