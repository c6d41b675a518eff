"""DDIM with SDXL-Lightning's low-rank weights: a student of SDXL that draws in few steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from portraitlab.diffusion.backbone import Backbone
from portraitlab.diffusion.loras import lora_of
from portraitlab.method.model import PortraitModel
from portraitlab.method.sampler.ddim import DDIM
from portraitlab.support.hub import Repository, find_published
from portraitlab.types import Batch

_PUBLISHED = (8, 4, 2)
"""Steps for which there are low-rank weights; a student of one step is published whole."""


class SDXLLightning(DDIM):
    """HiFi-Portrait's "DDIM sampler with 8-steps SDXL-Lightning" (Sec. 4.1; Lin et al., 2024).

    weights: one LoRA of the backbone's UNet, which has `<steps>step` in its file's name, as the
    published ones have. folder: that has it; None looks where `hf download` puts it. guidance: a
    student has it built in, so that 1, which is without, is what it was made for. All else as for
    DDIM.

    Raises ValueError for numbers out of range, and where the file is of another number of steps.
    """

    def __init__(
        self,
        weights: Repository,
        folder: str | None = None,
        steps: int = 8,
        guidance: float = 1.0,
        **settings: Any,
    ) -> None:
        super().__init__(steps=steps, guidance=guidance, **settings)
        if steps not in _PUBLISHED:
            raise ValueError(
                f"sampler.steps is {steps}; SDXL-Lightning has low-rank weights for "
                f"{', '.join(map(str, _PUBLISHED))} steps."
            )
        (self.name,) = weights.files
        if f"_{steps}step_" not in self.name:
            raise ValueError(
                f"sampler.steps is {steps}, and {self.name} was distilled to others; a student "
                "draws in the steps of its name."
            )
        self.weights = weights
        self.folder = folder

    @contextmanager
    def ready(self, backbone: Backbone) -> Iterator[None]:
        """In it the UNet has the student's weights; drawing often, one enters it once.

        Raises ValueError where they are none or of another base, and, as MissingPublished, where
        they are missing.
        """
        (place,) = find_published([(self.weights, self.folder)])
        with lora_of(backbone.unet, place / self.name):
            yield

    def sample(self, model: PortraitModel, batch: Batch, seeds: Sequence[int]) -> Tensor:
        """As DDIM's. Raises ValueError as `ready` does."""
        with self.ready(model.backbone):
            return super().sample(model, batch, seeds)
