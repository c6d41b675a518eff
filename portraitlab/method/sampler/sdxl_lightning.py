"""DDIM with SDXL-Lightning's LoRAs: a student of SDXL that samples in few steps."""

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
"""Steps with a published LoRA; the student of one step is published as a full model."""


class SDXLLightning(DDIM):
    """HiFi-Portrait's "DDIM sampler with 8-steps SDXL-Lightning" (Sec. 4.1; Lin et al., 2024).

    weights: one LoRA of the backbone's UNet, with `<steps>step` in its file's name, as the
    published ones have. folder: the folder with it; None uses the cache of `hf download`. guidance:
    a student is distilled with guidance, so its own is 1, without guidance. All else as for DDIM.

    Raises ValueError for numbers out of range, and for a file of another number of steps.
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
                f"sampler.steps is {steps}; SDXL-Lightning has LoRAs for "
                f"{', '.join(map(str, _PUBLISHED))} steps."
            )
        (self.name,) = weights.files
        if f"_{steps}step_" not in self.name:
            raise ValueError(
                f"sampler.steps is {steps}, but {self.name} was distilled for another number; give "
                "the file of the same number of steps."
            )
        self.weights = weights
        self.folder = folder

    @contextmanager
    def ready(self, backbone: Backbone) -> Iterator[None]:
        """Add the student's weights to the UNet in a context; enter it once for many batches.

        Raises ValueError where the file is not a LoRA of this base, and MissingPublished where it
        is missing.
        """
        (place,) = find_published([(self.weights, self.folder)])
        with lora_of(backbone.unet, place / self.name):
            yield

    def sample(self, model: PortraitModel, batch: Batch, seeds: Sequence[int]) -> Tensor:
        """Sample as DDIM does. Raises the errors of `ready`."""
        with self.ready(model.backbone):
            return super().sample(model, batch, seeds)
