"""Checkpoints to resume a training from, written atomically and verified by checksum."""

from __future__ import annotations

import logging
import os
import re
import time
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from portraitlab.support.hashes import file_digest

_log = logging.getLogger(__name__)

_NAME = re.compile(r"step-(\d+)-([0-9a-f]{16})\.ckpt")


class Checkpoints(Callback):
    """A callback that saves the training's state periodically and keeps the latest two.

    A file's name contains the step and the start of the sha256 of its content, so that damaged
    files are recognised. A file is renamed to its name only when it is completely on disk.

    every: steps between checkpoints. seconds: training time so far, including that of the
    processes before a resume.
    """

    def __init__(self, folder: Path, every: int) -> None:
        self.folder = folder
        self.every = every
        self.seconds = 0.0
        self._since = time.monotonic()
        self._saved: int | None = None  # the last step that this process saved
        self._sound = [good] if (good := latest(folder)) else []

    @property
    def resumes(self) -> Path | None:
        """The checkpoint to resume from; None where there is none."""
        return self._sound[-1] if self._sound else None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._since = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Save every `every` steps."""
        if trainer.global_step % self.every == 0:
            self.save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self._count()

    def save(self, trainer: Trainer) -> None:
        """Save now, in all processes of a training, unless this step is saved already.

        Raises OSError where the disk is full.
        """
        if trainer.global_step == self._saved:
            return
        self._count()
        half = self.folder / ".half"
        try:
            try:
                trainer.save_checkpoint(half, weights_only=False)
            except RuntimeError as error:  # torch raises it where the disk is full
                if "PytorchStreamWriter" not in str(error) and "write" not in str(error):
                    raise
                raise OSError(f"the checkpoint {half} could not be written: {error}") from error
            if trainer.is_global_zero:
                self._name(half, trainer.global_step)
            self._saved = trainer.global_step
        finally:
            if trainer.is_global_zero:
                half.unlink(missing_ok=True)

    def state_dict(self) -> dict[str, float]:
        """Return the training time so far, which every checkpoint contains."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the training time of a checkpoint."""
        self.seconds = state_dict["seconds"]

    def _count(self) -> None:
        now = time.monotonic()
        self.seconds += now - self._since
        self._since = now

    def _name(self, half: Path, step: int) -> None:
        with half.open("rb") as file:
            os.fsync(file.fileno())
        digest = file_digest(half)
        named = self.folder / f"step-{step:06d}-{digest[:16]}.ckpt"
        half.replace(named)
        self._sound = [*self._sound[-1:], named]
        for path in self.folder.glob("*.ckpt"):
            if path not in self._sound:
                path.unlink()


def latest(folder: Path) -> Path | None:
    """Find the latest undamaged checkpoint of a folder; log a warning for each damaged one."""
    named = {path: match for path in folder.glob("*.ckpt") if (match := _NAME.match(path.name))}
    for path in sorted(named, key=lambda path: int(named[path][1]), reverse=True):
        if file_digest(path).startswith(named[path][2]):
            return path
        _log.warning("the checkpoint %s is damaged; going back to the one before", path)
    return None
