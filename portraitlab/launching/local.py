"""Run the jobs of a sweep on this machine, each in a process of its own.

A server process imports the libraries once and is forked for every job: jobs start quickly, and a
job's changes to its process cannot affect the next one.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

from portraitlab.launching.console import console_logging
from portraitlab.launching.sweeping import SweepPlan
from portraitlab.launching.watching import SweepView
from portraitlab.runs.run import Run
from portraitlab.runs.status import Preempted, write_failure
from portraitlab.runs.survey import look
from portraitlab.runs.sweep import SweepJob
from portraitlab.support.printing import replace_unencodable
from portraitlab.support.share import Share, shares

# Imports of a job. None starts a thread or touches a GPU, which a fork would not survive.
_IMPORTED = [
    *("portraitlab.launching.local", "portraitlab.launching.perform", "portraitlab.app.task.train"),
    *("portraitlab.world.pretrained", "portraitlab.data.world", "portraitlab.scoring.judge"),
    *(
        "portraitlab.method.net.hifi_net",
        "portraitlab.method.fusion.refiner",
        "portraitlab.training.loggers",
    ),
    *("portraitlab.scoring.metrics.fid", "portraitlab.method.sampler.ddim", "wandb"),
]
_POLL = 0.5


@dataclass
class _Running:
    place: int
    process: BaseProcess
    errors: Connection
    share: Share


def run_jobs(plan: SweepPlan, places: list[int], jobs: int | None) -> None:
    """Run jobs of a plan, `jobs` in parallel, and update the sweep's table as they end.

    jobs: None is one on each core, or one at a time on GPUs (see shares). On a signal the running
    jobs stop after their step, and no other starts.

    Raises:
        Preempted: a signal stopped the sweep.
        ValueError: the machine has too few cores or GPUs for the jobs.
    """
    if not places:
        return
    # Divide the machine.
    free = shares(jobs, [plan.settings[place]["trainer"] for place in places])
    alone = len(free) == 1
    waiting, running = list(places), list[_Running]()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)

    # Start, watch and end jobs.
    with _listening() as received, SweepView(plan, places, show=not alone) as view:
        while running or (waiting and received.signum is None):
            while free and received.signum is None:
                place = next_job(plan.jobs, waiting, [job.place for job in running])
                if place is None:
                    break
                waiting.remove(place)
                share = free.pop(0)
                view.begins(place)
                running.append(_begin(context, plan, place, share, console=alone))
            wait([job.process.sentinel for job in running], timeout=_POLL)
            view.update([job.place for job in running])
            if received.signum is not None:
                for job in running:
                    received.pass_on(job.process)
            for job in [job for job in running if not job.process.is_alive()]:
                running.remove(job)
                free.append(job.share)
                _end(plan, job, received.signum)
                view.ended(job.place)

    # Withdraw the jobs that have not started.
    if received.signum is not None:
        for place in waiting:
            plan.withdraw(place)
        plan.sweep.write_table()
        done = sum(not isinstance(job.outcome(), str) for job in plan.jobs)
        print(
            f"stopped: {done} of {len(plan.jobs)} jobs are done; the same command resumes",
            file=sys.stderr,
        )
        raise Preempted(received.signum, signal.Signals(received.signum).name)


def next_job(
    jobs: Sequence[SweepJob], waiting: Sequence[int], running: Sequence[int]
) -> int | None:
    """Return the first waiting job whose run no running job works on; None without one.

    A second job of the same run, with another scoring, would only wait for the first.
    """
    busy = {jobs[place].run.folder for place in running}
    return next((place for place in waiting if jobs[place].run.folder not in busy), None)


class _Received:
    """The signal that this process received; it is passed on once to each job."""

    def __init__(self) -> None:
        self.signum: int | None = None
        self._passed: set[int | None] = set()

    def receive(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum

    def pass_on(self, process: BaseProcess) -> None:
        # Always send SIGTERM: a terminal's Ctrl-C reaches the jobs by itself, and a second one
        # would stop them before their step ends.
        if process.pid not in self._passed:
            self._passed.add(process.pid)
            process.terminate()


@contextmanager
def _listening() -> Iterator[_Received]:
    """Receive SIGINT and SIGTERM during the context; outside the main thread receive nothing."""
    received = _Received()
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {
        each: signal.signal(each, received.receive) for each in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield received
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _begin(context: Any, plan: SweepPlan, place: int, share: Share, console: bool) -> _Running:
    reader, writer = context.Pipe(duplex=False)
    log = None if console else plan.folder / f"job-{place}.txt"
    arguments = (plan.settings[place], share, log, writer)
    process = context.Process(target=_work, args=arguments, name=f"job {place}")
    process.start()
    writer.close()
    return _Running(place, process, reader, share)


def _end(plan: SweepPlan, job: _Running, signum: int | None) -> None:
    job.process.join()
    code = job.process.exitcode
    try:
        error = job.errors.recv() if job.errors.poll() else None
    except EOFError:
        error = None
    job.errors.close()
    stopped = signum is not None and code == -signal.SIGTERM  # before it handled signals
    if error is None and code and not stopped:
        error = _failure(plan.jobs[job.place].run, code)
    plan.end(job.place, error)


def _failure(run: Run, code: int) -> str | None:
    """Describe the end of a job without a message, also in its status; None if it was stopped."""
    state = look(run.folder).state
    if state == "preempted":
        return None
    error = f"exit code {code}" if code > 0 else f"killed by {signal.Signals(-code).name}"
    if code == -signal.SIGKILL:
        error += "; the system does that where memory runs out: lower jobs or batch_size"
    if state == "lost":  # else another command may have resumed the run already
        write_failure(run.folder, error)
    return error


def _work(settings: dict[str, Any], share: Share, log: Path | None, errors: Connection) -> None:
    """Run a job in its process, and send the message of an error to the parent."""
    from omegaconf import OmegaConf

    from portraitlab.launching.perform import perform
    from portraitlab.support.errors import message

    threading.Thread(target=_end_with_parent, daemon=True).start()
    replace_unencodable()
    if log is not None:
        with log.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
    console_logging()
    try:
        share.take()
        perform(OmegaConf.create(settings))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        text = message(error)
        if text is None:
            text = f"{type(error).__name__}: {error}"
            traceback.print_exc()
        errors.send(text)
        sys.exit(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
