"""The progress bar of work on many photos: count, speed and time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class Bar(Protocol):
    """A progress bar for one kind of work; the yielded function advances it by units."""

    def __call__(
        self, title: str, total: int | None = None, done: int = 0, /
    ) -> AbstractContextManager[Callable[[int], None]]:
        """Open the bar. total: None if unknown. done: units done by an earlier run."""
        ...


class _Speed(ProgressColumn):
    """A column of units a second, once there is a figure."""

    def render(self, task: Task) -> Text:
        """Return the speed; empty before anything is done."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s")


def _shown() -> Progress:
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Speed(),
        TimeRemainingColumn(),
    )  # fmt: skip
    return Progress(*columns, console=Console(stderr=True))


@contextmanager
def progress_bar(
    title: str, total: int | None = None, done: int = 0
) -> Iterator[Callable[[int], None]]:
    """Show a Bar on the error stream."""
    with _shown() as progress:
        task = progress.add_task(title, total=total, completed=done)
        yield lambda units: progress.advance(task, units)


class SharedBars:
    """Bars on the error stream for work shared by several processes, one a kind of work."""

    def __init__(self) -> None:
        self._progress = _shown()
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> SharedBars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begins(self, title: str, total: int | None, done: int) -> None:
        """Add a process's share to the bar of this title."""
        if title not in self._tasks:
            self._tasks[title] = self._progress.add_task(title, total=None)
        task = self._progress.tasks[self._tasks[title]]
        if total is not None:
            self._progress.update(task.id, total=(task.total or 0) + total)
        self._progress.update(task.id, advance=done)

    def advances(self, title: str, units: int) -> None:
        """Advance the bar of this title."""
        self._progress.advance(self._tasks[title], units)
