"""A peer of restorations: a net of blind face restoration, which sees the broken face alone."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from portraitlab.method.edit.restoration import FaceRestoration
from portraitlab.method.edit.squares import resized
from portraitlab.method.model import PortraitModel
from portraitlab.types import Condition


class RestorerNet(Protocol):
    """A module from broken faces [F, 3, S, S] in [-1, 1] to clean ones, S its image_size."""

    image_size: int

    def __call__(self, images: Tensor) -> Tensor:
        """Restore images."""
        ...

    def to(self, device: torch.device) -> RestorerNet:
        """Move the weights to a device."""
        ...


class Restorer(FaceRestoration):
    """Restore a face without knowing the person, as CodeFormer (Zhou et al., NeurIPS 2022) does.

    The other settings are FaceRestoration's.
    """

    def __init__(self, net: RestorerNet, **settings: Any) -> None:
        super().__init__(**settings)
        self.net = net

    def restore(
        self,
        model: PortraitModel,
        crops: Tensor,
        condition: Condition,
        masks: Tensor,
        beside: Tensor | None = None,
    ) -> Tensor:
        """Restore crops [F, 3, S, S] at the net's size; the condition is not read."""
        net, size = self.net.to(crops.device), self.net.image_size
        restored = net(torch.stack([resized(crop, size) for crop in crops]))
        return torch.stack([resized(image, crops.shape[-1]) for image in restored])
