"""Exponential moving average of the trained weights, which is the result of a training."""

from __future__ import annotations

from typing import Any

from diffusers.training_utils import EMAModel
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from portraitlab.method.model import PortraitModel


class Averaging(Callback):
    """Exponential moving average of the trained parameters (Ho et al., 2020, App. B).

    After step t = 1, 2, ... the average W becomes a W + (1 - a) w of the weights w, with
    a = min(decay, t / (9 + t)), and a = 0 in the first step, so that the initial weights are
    forgotten (diffusers' rule). Every checkpoint contains the average; training continues from the
    weights themselves. Each process keeps its own copy, and all copies are equal.

    decay: between 0 and 1.
    """

    def __init__(self, model: PortraitModel, decay: float) -> None:
        self.parameters = model.trained_parameters()
        self.average = EMAModel(self.parameters, decay, foreach=True)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Update the average after a step."""
        self.average.step(self.parameters)

    def finish(self) -> None:
        """Replace the weights by their average."""
        self.average.copy_to(self.parameters)

    def state_dict(self) -> dict[str, Any]:
        """Return the average, in the order of the parameters, and its number of steps."""
        state: dict[str, Any] = self.average.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the average of a checkpoint."""
        self.average.load_state_dict(state_dict)
        self.average.to(self.parameters[0].device)
