"""The training's progress bar, with the losses beside it."""

from __future__ import annotations

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from portraitlab.runs.status import Status
from portraitlab.support.processes import process_rank


class TrainingBar(Callback):
    """Steps done, time left and the latest losses on one line.

    status: of the run, which is told the steps too.
    """

    def __init__(self, status: Status | None = None) -> None:
        self.status = status
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
            refresh_per_second=2,  # each drawing takes a core from the training
            disable=process_rank() > 0,
        )
        self.task = self.bar.add_task("Training", losses="")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show it, at the step that a resumed training starts from."""
        self.bar.update(self.task, total=trainer.max_steps, completed=trainer.global_step)
        self.bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Move on."""
        if self.status is not None:
            self.status.step = trainer.global_step
        metrics = trainer.callback_metrics.items()
        losses = " ".join(f"{name.removeprefix('train/')} {float(v):.3f}" for name, v in metrics)
        self.bar.update(self.task, completed=trainer.global_step, losses=losses)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave it on the screen as it is."""
        self.bar.stop()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Give the screen back, so that the message stands below it."""
        self.bar.stop()
