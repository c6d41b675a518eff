"""Progress bar of a training, with the losses."""

from __future__ import annotations

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from portraitlab.runs.status import Status
from portraitlab.support.processes import process_rank


class TrainingBar(Callback):
    """A progress bar with the steps done, the time left and the latest losses on one line.

    status: the run's status, updated with the steps.
    """

    def __init__(self, status: Status | None = None) -> None:
        self.status = status
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
            refresh_per_second=2,  # a refresh takes a core from the training
            disable=process_rank() > 0,
        )
        self.task = self.bar.add_task("Training", losses="")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar, at the step that a resumed training starts from."""
        self.bar.update(self.task, total=trainer.max_steps, completed=trainer.global_step)
        self.bar.start()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Record the first step in the status."""
        if self.status is not None and self.status.step is None:
            self.status.begin(trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Update the bar and the status."""
        if self.status is not None:
            self.status.step = trainer.global_step
        metrics = trainer.callback_metrics.items()
        losses = " ".join(f"{name.removeprefix('train/')} {float(v):.3f}" for name, v in metrics)
        self.bar.update(self.task, completed=trainer.global_step, losses=losses)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop refreshing; the bar stays on the screen."""
        self.bar.stop()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Stop refreshing, so that the error is printed below the bar."""
        self.bar.stop()
