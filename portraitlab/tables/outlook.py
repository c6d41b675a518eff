"""Estimate how long the missing results of the papers' tables take on this machine."""

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
    """Results of a table: done, in total, and the work that is left.

    trainings, scorings: numbers of missing ones; a training that several rows score counts once.
    seconds: their time one after another, from the medians of timed ones, less the steps that are
    done; None where none of this scale was timed. timed: "here", or the machine of the committed
    results where no run of this machine was timed.
    """

    done: int
    total: int
    trainings: int
    scorings: int
    seconds: float | None
    timed: str


def outlooks(tables: Sequence[PaperTable], runs: Path) -> list[Outlook]:
    """Return the outlook of each table, given the runs below a folder.

    A result that another of the tables has is only copied, which takes no time.
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
        # Compose once a row, since composing is slow; only the seed differs.
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
    """Return the number of steps that an unfinished training has made."""
    steps: int = look(run.folder).status.get("step", 0)
    return steps
