"""DDIM with SDXL-Lightning's low-rank weights: a student of SDXL that draws in few steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from portraitlab.backbone.diffusion import Backbone
from portraitlab.loras import lora_of
from portraitlab.model import PortraitModel
from portraitlab.published import Repository, find_published
from portraitlab.sampler.ddim import DDIM
from portraitlab.types import Batch


class SDXLLightning(DDIM):
    """HiFi-Portrait's "DDIM sampler with 8-steps SDXL-Lightning" (Sec. 4.1; Lin et al., 2024).

    weights: one LoRA of the backbone's UNet, which has `<steps>step` in its file's name, as the
    published ones have. folder: that has it; None looks where `hf download` puts it. guidance: a
    student has it built in, so that 1, which is without, is what it was made for. All else as for
    DDIM.

    Raises ValueError for numbers out of range, where the file is of another number of steps, and,
    as MissingPublished, where it is missing.
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
        (name,) = weights.files
        if f"_{steps}step_" not in name:
            raise ValueError(
                f"sampler.steps is {steps}, and {name} was distilled to others; a student draws in "
                "the steps of its name."
            )
        (place,) = find_published([(weights, folder)])
        self.file = place / name

    @contextmanager
    def ready(self, backbone: Backbone) -> Iterator[None]:
        """In it the UNet has the student's weights; drawing often, one enters it once.

        Raises ValueError where they are none or of another base.
        """
        with lora_of(backbone.unet, self.file):
            yield

    def sample(self, model: PortraitModel, batch: Batch, seeds: Sequence[int]) -> Tensor:
        """As DDIM's. Raises ValueError as `ready` does."""
        with self.ready(model.backbone):
            return super().sample(model, batch, seeds)
