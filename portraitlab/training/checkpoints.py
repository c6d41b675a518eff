"""States of a training to go on from: each is a whole file, and known to be sound."""

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
    """Saves a training's state every so many steps and where it is stopped; keeps the latest two.

    A file's name holds the step and the start of the sha256 of its content, so that a damaged one
    is told from a sound one. It takes its name only when all of it is on the disk. seconds: of
    training until now, over all the processes that a stopped training was taken up by.
    """

    def __init__(self, folder: Path, every: int) -> None:
        self.folder = folder
        self.every = every
        self.seconds = 0.0
        self._since = time.monotonic()
        self._saved: int | None = None  # the step, by this process
        self._sound = [good] if (good := latest(folder)) else []

    @property
    def resumes(self) -> Path | None:
        """The checkpoint to go on from."""
        return self._sound[-1] if self._sound else None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._since = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Save where it is time to."""
        if trainer.global_step % self.every == 0:
            self.save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self._count()

    def save(self, trainer: Trainer) -> None:
        """Save now, in all processes of a training, unless this step is saved.

        Raises OSError where the disk takes no more.
        """
        if trainer.global_step == self._saved:
            return
        self._count()
        half = self.folder / ".half"
        try:
            try:
                trainer.save_checkpoint(half, weights_only=False)
            except RuntimeError as error:  # torch's word for a disk that is full
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
        """The seconds until now: part of every checkpoint."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
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
    """The latest sound checkpoint of a folder; says so where it passes over a damaged one."""
    named = {path: match for path in folder.glob("*.ckpt") if (match := _NAME.match(path.name))}
    for path in sorted(named, key=lambda path: int(named[path][1]), reverse=True):
        if file_digest(path).startswith(named[path][2]):
            return path
        _log.warning("the checkpoint %s is damaged; going back to the one before", path)
    return None
