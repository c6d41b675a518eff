"""The profile beside the target, as context (IC-Portrait, eqs. 1 and 2)."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from portraitlab.method.transform.base import Transform
from portraitlab.types import Batch


class SideBySide(Transform):
    """Join the target and the profile along the width, as z and z' of eq. 2.

    The control image is the target's, joined with the whole profile (eq. 1). The target is always
    at the left: the paper takes either photo of a pair as the target.
    """

    wants: ClassVar[tuple[str, ...]] = ("pictures",)
    side_by_side = True

    def apply(self, batch: Batch, step: int) -> Batch:
        """Return the batch with the profiles at the right; the same in every step."""
        return self.lay_out(batch)

    def lay_out(self, batch: Batch) -> Batch:
        """Return the batch with the profiles at the right: latents [B, c, h, 2·w] and others."""
        pictures = batch.pictures
        assert pictures is not None, "named by `wants`"
        drawing = batch.drawing
        if drawing is not None:
            drawing = torch.cat([drawing, pictures.profile.to(drawing)], dim=-1)
        return replace(
            batch,
            latents=torch.cat([batch.latents, pictures.latents.to(batch.latents)], dim=-1),
            person=torch.cat([batch.person, pictures.person.to(batch.person)], dim=-1),
            drawing=drawing,
        )

    def picture(self, latents: Tensor) -> Tensor:
        """Return the left half of latents [B, c, h, 2·w]."""
        return latents[..., : latents.shape[-1] // 2]
