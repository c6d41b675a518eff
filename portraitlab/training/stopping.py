"""What stops a training, a signal or its time: it ends after a step, and saves what it has."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from portraitlab.runs.status import Preempted
from portraitlab.training.checkpoints import Checkpoints

# Ctrl-C; what kills politely; what submitit has SLURM send before a job's time is up.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)
# As which signal the end of trainer.max_time counts.
_TIME_IS_UP = signal.SIGALRM
_NAMES = {signal.SIGINT: "Ctrl-C", _TIME_IS_UP: "trainer.max_time"}


class StopSignals:
    """Turns signals into Preempted inside `with`: at once, or after a step where `later` is set.

    A second Ctrl-C does not wait for the step, unless `patient`: a process of a group is told
    twice, by the terminal and by the process that watches the group. Signals reach a program's
    main thread only; elsewhere this changes nothing. The handlers of before come back at the end.
    """

    def __init__(self, patient: bool = False) -> None:
        self.patient = patient
        self.caught: int | None = None
        self.later = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self.install()
        return self

    def __exit__(self, *args: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        self._before = {}

    def install(self) -> None:
        """Take the signals, also from who took them in between (Lightning takes SIGTERM)."""
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                before = signal.signal(signum, self._handle)
                self._before.setdefault(signum, before)

    def stop(self, signum: int) -> None:
        """Raise Preempted."""
        raise Preempted(signum, _NAMES.get(signal.Signals(signum), signal.Signals(signum).name))

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        again = self.caught == signum == signal.SIGINT and not self.patient
        self.caught = signum
        if again or not self.later:
            self.stop(signum)


class StopAfterStep(Callback):
    """Ends a training in all its processes after the step in which one of them got a signal.

    said: called with the step that was saved. limit: seconds from the first step of this command,
    after which it ends as well; None is without. Lightning's own Timer counts those of all commands
    together, so that the same command would not go on.
    """

    def __init__(
        self,
        signals: StopSignals,
        checkpoints: Checkpoints,
        said: Callable[[int], None],
        limit: float | None = None,
    ) -> None:
        self.signals = signals
        self.checkpoints = checkpoints
        self.said = said
        self.limit = math.inf if limit is None else limit
        self._until = math.inf

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals from Lightning, which would broadcast from inside of a handler.

        Before, while control images are encoded and processes meet, a signal stops at once.
        """
        self.signals.install()
        self.signals.later = True
        self._until = time.monotonic() + self.limit

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """All steps are done: nothing is to be waited for any more."""
        self.signals.later = False

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """No step will follow."""
        self.signals.later = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Save and raise Preempted where a signal came, or the time is up before the last step."""
        caught = self.signals.caught
        unfinished = trainer.global_step < trainer.max_steps
        # By the clock of the process that keeps the status.
        if caught is None and unfinished and trainer.is_global_zero:
            caught = _TIME_IS_UP if time.monotonic() >= self._until else None
        if trainer.strategy.reduce_boolean_decision(caught is not None, all=False):
            self.checkpoints.save(trainer)
            self.said(trainer.global_step)
            self.signals.stop(signal.SIGTERM if caught is None else caught)
