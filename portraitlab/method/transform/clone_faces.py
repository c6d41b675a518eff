"""Clone face tuning: the same face twice in one picture (FPGA, Sec. 3.1)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from portraitlab.faces.alignment import face_boxes
from portraitlab.method.transform.base import Transform
from portraitlab.support.checks import check_whole
from portraitlab.types import Batch


class CloneFaces(Transform):
    """Double picture and control image side by side in every n-th step.

    "We duplicate the identity image and splice it to the original image, the same operation is
    applied to the corresponding pose image, while keeping the identity embedding constant", so that
    one embedding acts in two places. Pictures are laid side by side as latents, which differ from
    those of the joined picture at the seam alone.

    every: steps between two such steps, 10 in the paper ("once per 10 iterations").

    Raises ValueError for `every` below 1.
    """

    def __init__(self, every: int = 10) -> None:
        self.every = check_whole("transform.every", every, hint="; transform=none is never")

    def apply(self, batch: Batch, step: int) -> Batch:
        """Double the batch's pictures in width in steps 0, every, 2·every, …"""
        if step % self.every:
            return batch

        def doubled(images: Tensor) -> Tensor:
            return torch.cat([images, images], dim=-1)

        # Each half of the new width has a copy of the face; no box reaches into the other half.
        half = batch.latents.new_tensor([0.5, 1.0, 0.5, 1.0])
        left = face_boxes(batch.target_geometry.keypoints).clamp(0, 1).to(half) * half
        right = left + half.new_tensor([0.5, 0.0, 0.5, 0.0])
        return replace(
            batch,
            latents=doubled(batch.latents),
            person=doubled(batch.person),
            drawing=None if batch.drawing is None else doubled(batch.drawing),
            face_mask=None if batch.face_mask is None else doubled(batch.face_mask),
            clones=torch.stack([left, right], dim=1),
        )
