"""Stop a training after a step, on a signal or a time limit, with a checkpoint saved."""

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

# Ctrl-C; the signal of `kill`; the signal that SLURM sends before a submitit job's time is up.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)
# The end of trainer.max_time is handled like this signal.
_TIME_IS_UP = signal.SIGALRM
_NAMES = {signal.SIGINT: "Ctrl-C", _TIME_IS_UP: "trainer.max_time"}


class StopSignals:
    """A context manager that turns signals into Preempted, at once, or after a step with `later`.

    A second Ctrl-C does not wait for the step, unless `patient` is set: a process of a group gets
    the signal twice, from the terminal and from the process that watches the group. Signals reach
    a program's main thread only; in other threads this has no effect. The previous handlers are
    restored at the end.
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
        """Install the handlers, replacing any set in between (Lightning sets one for SIGTERM)."""
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
    """A callback that stops all processes after the step in which one of them got a signal.

    on_stop: called with the saved step. limit: seconds from the first step of this command, after
    which training stops as well; None for no limit. Lightning's Timer counts the time of all
    commands together, so the same command could not resume.
    """

    def __init__(
        self,
        signals: StopSignals,
        checkpoints: Checkpoints,
        on_stop: Callable[[int], None],
        limit: float | None = None,
    ) -> None:
        self.signals = signals
        self.checkpoints = checkpoints
        self.on_stop = on_stop
        self.limit = math.inf if limit is None else limit
        self._until = math.inf

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace Lightning's handlers, which would broadcast inside a signal handler.

        Until here (control images are encoded, processes connect) a signal stops at once.
        """
        self.signals.install()
        self.signals.later = True
        self._until = time.monotonic() + self.limit

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let signals stop at once again, since all steps are done."""
        self.signals.later = False

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Let signals stop at once again, since no step follows."""
        self.signals.later = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Save and raise Preempted after a signal, or at the time limit before the last step."""
        caught = self.signals.caught
        unfinished = trainer.global_step < trainer.max_steps
        # The first process alone measures the time.
        if caught is None and unfinished and trainer.is_global_zero:
            caught = _TIME_IS_UP if time.monotonic() >= self._until else None
        if trainer.strategy.reduce_boolean_decision(caught is not None, all=False):
            self.checkpoints.save(trainer)
            self.on_stop(trainer.global_step)
            self.signals.stop(signal.SIGTERM if caught is None else caught)
