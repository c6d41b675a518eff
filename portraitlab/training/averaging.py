"""An average of what is trained over the steps, which is what a training gives in the end."""

from __future__ import annotations

from typing import Any

from diffusers.training_utils import EMAModel
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from portraitlab.method.model import PortraitModel


class Averaging(Callback):
    """Keeps an exponential moving average of trained parameters alone (Ho et al., 2020, App. B).

    After step t = 1, 2, ... the average W becomes a W + (1 - a) w of the weights w, with
    a = min(decay, t / (9 + t)) and a = 0 in the first step, so that it forgets where the training
    began: diffusers' own rule. It is part of every checkpoint, and training goes on from the
    weights themselves. Each process keeps its own, and all are the same. decay: between 0 and 1.
    """

    def __init__(self, model: PortraitModel, decay: float) -> None:
        self.parameters = model.trained_parameters()
        self.average = EMAModel(self.parameters, decay, foreach=True)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Take in the weights after a step."""
        self.average.step(self.parameters)

    def finish(self) -> None:
        """Put the average in the place of the weights."""
        self.average.copy_to(self.parameters)

    def state_dict(self) -> dict[str, Any]:
        """The average, in the order of the parameters, and how many steps it is of."""
        state: dict[str, Any] = self.average.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on averaging."""
        self.average.load_state_dict(state_dict)
        self.average.to(self.parameters[0].device)
