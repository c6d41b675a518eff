"""What the papers' tables still lack, and how long that will take on this machine."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portraitlab.runs.run import Run
from portraitlab.runs.survey import look
from portraitlab.support.files import read_json
from portraitlab.tables.composing import composed, declared_arguments
from portraitlab.tables.paper_table import PaperTable
from portraitlab.tables.results import read_results, results_by_content
from portraitlab.tables.timing import timed_for, timed_here


@dataclass(frozen=True)
class Outlook:
    """Results that are there, of how many; and what is left for the others.

    trainings and scorings: how many, each training counted once however many rows score it.
    seconds: what they take one after another, from the medians of what was timed, less the steps
    that are made already; None where nothing of this scale was timed. timed: "here", or, where no
    run of this machine was, the machine that committed results were made on.
    """

    done: int
    total: int
    trainings: int
    scorings: int
    seconds: float | None
    timed: str


def outlooks(tables: Sequence[PaperTable], runs: Path) -> list[Outlook]:
    """The outlook of each table, with the runs below a folder.

    A row whose result lies in another of the tables is to be copied only, which takes no time.
    """
    published = results_by_content(table.folder for table in tables)
    contents = [read_json(path) or {} for path in published.values()]
    return [_outlook(table, runs, published, contents) for table in tables]


def _outlook(
    table: PaperTable,
    runs: Path,
    published: Collection[tuple[str, str]],
    contents: Sequence[Mapping[str, Any]],
) -> Outlook:
    there = {(each.row, each.seed) for each in read_results(table)}
    total = len(table.rows) * len(table.seeds)
    steps: dict[str, int] = {}
    scorings, scale = 0, ""
    for row in table.rows:
        seeds = [seed for seed in table.seeds if (row.name, seed) not in there]
        if not seeds:
            continue
        # Composed once a row, which is what takes long; a seed is a number in it.
        settings = composed(declared_arguments(table, row, seeds[0]))
        scale = settings["choices"]["scale"]
        for seed in seeds:
            run = Run.of({**settings, "seed": seed, "runs": str(runs)})
            if (run.key, run.scoring) in published:
                continue
            scorings += run.record() is None
            if not run.weights.is_file():
                steps[run.key] = settings["budget"]["steps"] - _steps_made(run)
    for timing in (timed_here(runs, scale), timed_for(contents, scale)):
        seconds = timing.seconds(sum(steps.values()), scorings)
        if seconds is not None:
            break
    return Outlook(len(there), total, len(steps), scorings, seconds, timing.where)


def _steps_made(run: Run) -> int:
    """How far a run that is not trained yet has come."""
    steps: int = look(run.folder).status.get("step", 0)
    return steps
