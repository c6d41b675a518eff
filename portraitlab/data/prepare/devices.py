"""The parts of one machine's preparation, a process for each device, under one bar."""

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
from portraitlab.data.prepare.parallel import follow_the_parent
from portraitlab.data.prepare.part import Part
from portraitlab.support.devices import device_count
from portraitlab.support.errors import message
from portraitlab.support.share import Share, split_cores, visible_gpus

_Result = TypeVar("_Result")


def device_shares(trainer: Mapping[str, Any]) -> list[Share]:
    """What of this machine each process may use: a device, and its share of the cores.

    On a CPU `devices` counts processes. Raises ValueError where there are fewer GPUs or cores.
    """
    count, cores = device_count(trainer), len(os.sched_getaffinity(0))
    if count > cores:
        raise ValueError(
            f"trainer.devices={trainer['devices']}, and there are {cores} cores: no process may "
            f"have less than one; take {cores} devices or fewer."
        )
    split = split_cores(count)
    gpus = visible_gpus() if trainer["accelerator"] != "cpu" else []
    if not gpus:
        return [Share(own) for own in split]
    if count > len(gpus):
        raise ValueError(
            f"trainer.devices={trainer['devices']}, and there are {len(gpus)} GPUs; take those."
        )
    return [Share(own, (gpu,)) for own, gpu in zip(split, gpus[:count], strict=True)]


def on_each(
    work: Callable[[Part, Bar], _Result], parts: Sequence[Part], shares: Sequence[Share]
) -> list[_Result]:
    """Results of the parts, each done in a process of its own on its share of the machine.

    work: can be pickled. The first failure stops all, since an idle device is else noticed last:
    raises ValueError with its words, RuntimeError with the traceback of a fault.
    """
    context = multiprocessing.get_context("spawn")
    running: dict[Connection, tuple[Part, BaseProcess]] = {}
    results: list[_Result] = []
    try:
        for part, share in zip(parts, shares, strict=True):
            here, there = context.Pipe(duplex=False)
            process: BaseProcess = context.Process(target=_perform, args=(work, part, share, there))
            process.start()
            there.close()  # so that its end is known when the process ends
            running[here] = (part, process)
        with SharedBars() as bars:
            while running:
                for said in wait(list(running)):
                    assert isinstance(said, Connection)
                    part, process = running[said]
                    try:
                        kind, *told = said.recv()
                    except EOFError:
                        process.join()
                        raise ValueError(
                            f"The process of part {part} was killed (exit code {process.exitcode}),"
                            " perhaps for its memory. The same command goes on."
                        ) from None
                    if kind == "result":
                        results += told
                        process.join()
                        del running[said]
                    elif kind == "refused":
                        raise ValueError(*told)
                    elif kind == "failed":
                        raise RuntimeError(f"The process of part {part} failed:\n{told[0]}")
                    elif kind == "begins":
                        bars.begins(*told)
                    else:
                        bars.advances(*told)
    finally:
        for _, process in running.values():
            process.terminate()
        for _, process in running.values():
            process.join()
    return results


def _perform(
    work: Callable[[Part, Bar], object], part: Part, share: Share, parent: Connection
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
        said = message(error)
        parent.send(("failed", traceback.format_exc()) if said is None else ("refused", said))
