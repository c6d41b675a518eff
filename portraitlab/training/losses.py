"""Write metrics.jsonl: a training's losses, each step once however often it was resumed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from portraitlab.support.files import write_text
from portraitlab.training.logged import read_losses


class Losses(Callback):
    """A callback that appends the step, the losses and the learning rate to metrics.jsonl.

    A resumed training first deletes the lines after its checkpoint.

    every: steps between lines. repeat: called with each line, also with those that exist when
    training starts.
    """

    def __init__(
        self, path: Path, every: int, repeat: Callable[[Mapping[str, Any]], None] | None = None
    ) -> None:
        self.path = path
        self.every = every
        self.repeat = repeat
        self._rate = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep only the lines up to the step that training starts from."""
        if trainer.is_global_zero:
            kept = [line for line in read_losses(self.path) if line["step"] <= trainer.global_step]
            write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))
            if self.repeat is not None:
                for line in kept:
                    self.repeat(line)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Any
    ) -> None:
        """Store the learning rate of this step, before the scheduler changes it."""
        self._rate = optimizer.param_groups[0]["lr"]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Append a line every `every` steps."""
        if trainer.is_global_zero and trainer.global_step % self.every == 0:
            line: dict[str, Any] = {"step": trainer.global_step}
            line |= {name: float(value) for name, value in trainer.callback_metrics.items()}
            line["learning_rate"] = self._rate
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            if self.repeat is not None:
                self.repeat(line)
