"""Show the progress of a sweep while its jobs run."""

from __future__ import annotations

from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from portraitlab.launching.sweeping import SweepPlan
from portraitlab.runs.status import read_status
from portraitlab.support.files import DamagedFile


class SweepView:
    """A progress display with one line a job: its settings, activity and time left.

    They are read from the runs. show: draw bars; without, jobs run one after another with their own
    output, and only their titles are printed.
    """

    def __init__(self, plan: SweepPlan, places: list[int], show: bool) -> None:
        self.plan = plan
        self.places = places
        self.show = show
        self.console = Console()
        self.bars = Progress(
            TextColumn("{task.description}", markup=False),
            TextColumn("{task.fields[doing]}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.console,
            refresh_per_second=2,
            disable=not show,
        )
        self._tasks = {
            place: self.bars.add_task(self._title(place), total=None, doing="queued")
            for place in places
        }

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(self, *args: object) -> None:
        self.bars.stop()

    def begins(self, place: int) -> None:
        """Show that a job begins."""
        if self.show:
            self.bars.update(self._tasks[place], doing="starts")
        else:
            self.console.print(self._title(place), style="bold", highlight=False, markup=False)

    def update(self, running: list[int]) -> None:
        """Read and show the activities of the running jobs."""
        for place in running if self.show else []:
            try:
                status = read_status(self.plan.jobs[place].run.folder)
            except (DamagedFile, OSError):  # the job reports it when it ends
                continue
            if status is None or status["state"] != "running":
                continue
            task = self._tasks[place]
            self.bars.update(task, doing=status.get("doing", "prepares"))
            if "steps" in status:
                self.bars.update(task, total=status["steps"], completed=status.get("step", 0))

    def ended(self, place: int) -> None:
        """Show that a job ended."""
        outcome = self.plan.jobs[place].outcome()
        doing = outcome if isinstance(outcome, str) else "done"
        task = self._tasks[place]
        total = self.bars.tasks[task].total or 1
        self.bars.update(task, doing=doing, total=total, completed=total)

    def _title(self, place: int) -> str:
        overrides = self.plan.jobs[place].overrides
        swept = self.plan.sweep.swept()
        names = " ".join(f"{name}={overrides[name]}" for name in swept if name in overrides)
        return f"[{place + 1}/{len(self.plan.jobs)}] {names}"
