"""Run a preparation on all devices of a machine, one process each, under one progress bar."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from portraitlab.data.prepare.bar import Bar, SharedBars
from portraitlab.data.prepare.part import StorePart
from portraitlab.data.prepare.reading import follow_the_parent
from portraitlab.support.devices import device_count
from portraitlab.support.errors import message
from portraitlab.support.share import Share, split_cores, visible_gpus

_Result = TypeVar("_Result")


def device_shares(trainer: Mapping[str, Any]) -> list[Share]:
    """Divide the machine among processes: a device and a share of the cores for each.

    On a CPU `devices` counts processes. Raises ValueError if there are fewer GPUs or cores.
    """
    count, cores = device_count(trainer), len(os.sched_getaffinity(0))
    if count > cores:
        raise ValueError(
            f"trainer.devices={trainer['devices']}, and there are {cores} cores: each process "
            f"needs one; take {cores} devices or fewer."
        )
    split = split_cores(count)
    gpus = visible_gpus() if trainer["accelerator"] != "cpu" else []
    if not gpus:
        return [Share(own) for own in split]
    if count > len(gpus):
        raise ValueError(
            f"trainer.devices={trainer['devices']}, and there are {len(gpus)} GPUs; take no more."
        )
    return [Share(own, (gpu,)) for own, gpu in zip(split, gpus[:count], strict=True)]


def on_each(
    work: Callable[[StorePart, Bar], _Result], parts: Sequence[StorePart], shares: Sequence[Share]
) -> list[_Result]:
    """Run each part in a process of its own on its share of the machine; return their results.

    work: can be pickled. The first failure stops all processes, so that it is noticed at once: it
    is raised as ValueError with its message or, for a fault, as RuntimeError with its traceback.
    """
    context = multiprocessing.get_context("spawn")
    running: dict[Connection, tuple[StorePart, BaseProcess]] = {}
    results: list[_Result] = []
    try:
        # Start a process for each part.
        for part, share in zip(parts, shares, strict=True):
            receiver, sender = context.Pipe(duplex=False)
            process: BaseProcess = context.Process(
                target=_perform, args=(work, part, share, sender)
            )
            process.start()
            sender.close()  # so that the receiver notices when the process ends
            running[receiver] = (part, process)
        # Handle their messages until all are done.
        with SharedBars() as bars:
            while running:
                for ready in wait(list(running)):
                    assert isinstance(ready, Connection)
                    part, process = running[ready]
                    try:
                        kind, *content = ready.recv()
                    except EOFError:
                        process.join()
                        raise ValueError(
                            f"The process of part {part} was killed (exit code {process.exitcode}),"
                            " perhaps for its memory. Run the same command again to resume."
                        ) from None
                    if kind == "result":
                        results += content
                        process.join()
                        del running[ready]
                    elif kind == "refused":
                        raise ValueError(*content)
                    elif kind == "failed":
                        raise RuntimeError(f"The process of part {part} failed:\n{content[0]}")
                    elif kind == "begins":
                        bars.begins(*content)
                    else:
                        bars.advances(*content)
    finally:
        for _, process in running.values():
            process.terminate()
        for _, process in running.values():
            process.join()
    return results


def _perform(
    work: Callable[[StorePart, Bar], object], part: StorePart, share: Share, parent: Connection
) -> None:
    follow_the_parent()
    share.take()

    @contextmanager
    def bar(title: str, total: int | None = None, done: int = 0) -> Iterator[Callable[[int], None]]:
        parent.send(("begins", title, total, done))
        yield lambda units: parent.send(("advances", title, units))

    try:
        parent.send(("result", work(part, bar)))
    except Exception as error:
        text = message(error)
        parent.send(("failed", traceback.format_exc()) if text is None else ("refused", text))
