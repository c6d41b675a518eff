"""Add the residuals of further ControlNets to those of a net."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from diffusers import ControlNetModel
from torch import Tensor, nn
from torch.nn import functional

from portraitlab.diffusion.backbone import Backbone
from portraitlab.method.net.base import Net
from portraitlab.types import (
    Batch,
    Condition,
    FaceFeatures,
    Injection,
    ReferenceMaps,
    TextFeatures,
)


@dataclass(frozen=True)
class Control:
    """A published ControlNet and its control image [1, 3, H, W] in [0, 1].

    scale: weight of its residuals.
    """

    controlnet: ControlNetModel
    image: Tensor
    scale: float = 1.0


class WithControls(Net):
    """A net with ControlNets that were trained with the same base (Zhang et al., 2023).

    As in diffusers' pipelines, the ControlNets read the prompt, and also act in the unconditional
    prediction of guidance, where the net itself injects nothing. Beside a profile, their control
    image is black.
    """

    def __init__(self, net: Net, controls: Sequence[Control]) -> None:
        super().__init__(net.control, net.identity, net.latents, net.pixels)
        self.net = net
        self.side_by_side = net.side_by_side
        self.controls = tuple(controls)
        self.controlnets = nn.ModuleList(control.controlnet for control in controls)

    def read(self, references: FaceFeatures) -> ReferenceMaps:
        """Read the references as the net itself does."""
        return self.net.read(references)

    def read_prompt(self, batch: Batch) -> TextFeatures:
        """Read the prompt as the net itself does."""
        return self.net.read_prompt(batch)

    def read_empty_prompt(self, backbone: Backbone, negative_prompt: str) -> TextFeatures:
        """Read the prompt as the net itself does."""
        return self.net.read_empty_prompt(backbone, negative_prompt)

    def read_drawing(self, drawing: Tensor) -> Tensor:
        """Encode the control image as the net itself does."""
        return self.net.read_drawing(drawing)

    def for_drawing(self, backbone: Backbone) -> WithControls:
        """Return the net as it draws, with the same controls."""
        return WithControls(self.net.for_drawing(backbone), self.controls)

    def forward(self, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Injection:
        """Add the residuals of all controls to the net's injection."""
        injection = self.net(noisy, timesteps, condition)
        down, mid = injection.down, injection.mid
        pictures = noisy.shape[-1] // noisy.shape[-2]
        for control in self.controls:
            image = control.image.to(noisy.device).expand(len(noisy), -1, -1, -1)
            image = functional.pad(image, (0, (pictures - 1) * image.shape[-1]))
            added_down, added_mid = control.controlnet(
                noisy,
                timesteps,
                encoder_hidden_states=condition.text.words,
                added_cond_kwargs=condition.text.added,
                controlnet_cond=image,
                conditioning_scale=control.scale,
                return_dict=False,
            )
            if down is None or mid is None:
                down, mid = tuple(added_down), added_mid
            else:
                pairs = zip(down, added_down, strict=True)
                down, mid = tuple(one + two for one, two in pairs), mid + added_mid
        return replace(injection, down=down, mid=mid)
