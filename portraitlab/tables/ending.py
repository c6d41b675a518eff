"""End a command with `table=`: write results, figures and README, and show the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote

from portraitlab.runs.sweep import Sweep, SweepJob
from portraitlab.support.files import write_bytes, write_text
from portraitlab.tables.composing import declared_run
from portraitlab.tables.figures.drawing import figures, write_figures
from portraitlab.tables.paper_readme import readme
from portraitlab.tables.paper_table import PaperRow, PaperTable
from portraitlab.tables.paper_view import order_views, paper_view
from portraitlab.tables.results import (
    Result,
    read_results,
    result_from,
    result_of,
    result_path,
    write_result,
)
from portraitlab.tables.shown import keep_pictures


def end_of_table(table: PaperTable, sweep: Sweep, arguments: Sequence[str]) -> Path:
    """Collect the jobs' results in the table's folder, show the requested rows, return the folder.

    Where the command sets something that the table does not declare, such as another budget, the
    results are collected in the sweep's folder instead, as a table of their own.

    arguments: the command's.
    """
    jobs = [(table.row_of(job.overrides), int(job.overrides["seed"]), job) for job in sweep.jobs]
    requested = _requested(table, jobs)
    if not _is_declared(table, jobs):
        table = requested = replace(
            requested,
            folder=sweep.folder,
            command=" ".join(["python run.py", *map(quote, arguments)]),
            overrides=_common(table, sweep),
        )
        write_text(sweep.folder / "table.yaml", table.declaration())

    # Write the results of the jobs that are done.
    failed = {}
    for row, seed, job in jobs:
        outcome = job.outcome()
        if isinstance(outcome, str):
            failed[row.name, seed] = outcome
        elif job.run.record() is not None:
            _keep(table, row, result_of(row, seed, job.run, outcome), job)
        elif job.published != result_path(table.folder, row, seed):
            assert job.published is not None
            _copy(table, row, job.published)

    # Show them, and write the README.
    results = read_results(requested)
    for view in (paper_view(requested, results, failed), *order_views(requested, results)):
        view.show()
    write_readme(table)
    print(f"table: {table.folder / 'README.md'}")
    return table.folder


def write_readme(table: PaperTable) -> None:
    """Draw the figures of the results in a table's folder, and write its README.md with them."""
    results = read_results(table)
    drawn = figures(table, results)
    write_figures(table.folder, drawn)
    write_text(table.folder / "README.md", readme(table, results, drawn))


def _keep(table: PaperTable, row: PaperRow, result: Result, job: SweepJob) -> None:
    """Write a result; for the first seed also its portraits."""
    if result.seed == table.seeds[0]:
        strip = result_path(table.folder, row, result.seed).with_suffix(".png")
        shown = keep_pictures(job.run.record_folder / "samples", strip)
        if shown is not None:
            result = replace(result, content={**result.content, "shown": shown})
    write_result(table.folder, row, result)


def _copy(table: PaperTable, row: PaperRow, published: Path) -> None:
    """Copy a result from another table, with its pictures."""
    result = result_from(published, row)
    own = result_path(table.folder, row, result.seed)
    strip, people = published.with_suffix(".png"), published.with_name("people.png")
    if result.seed == table.seeds[0] and strip.is_file():
        write_bytes(own.with_suffix(".png"), strip.read_bytes())
        if not own.with_name("people.png").is_file():
            write_bytes(own.with_name("people.png"), people.read_bytes())
    write_result(table.folder, row, result)


def _requested(table: PaperTable, jobs: Sequence[tuple[PaperRow, int, SweepJob]]) -> PaperTable:
    """Reduce a table to the rows and seeds of the jobs."""
    rows = [row for row in table.rows if any(row is job[0] for job in jobs)]
    return replace(table, rows=tuple(rows), seeds=tuple(dict.fromkeys(job[1] for job in jobs)))


def _is_declared(table: PaperTable, jobs: Sequence[tuple[PaperRow, int, SweepJob]]) -> bool:
    if any(seed not in table.seeds for _, seed, _ in jobs):
        return False
    # A command sets the same in all rows, so checking one is enough.
    row, seed, job = jobs[0]
    declared = declared_run(table, row, seed)
    return (declared.key, declared.scoring) == (job.run.key, job.run.scoring)


def _common(table: PaperTable, sweep: Sweep) -> dict[str, str]:
    """Return the settings that all rows share."""
    own = ("table", "seed", *table.row_settings)
    return {name: value for name, value in sweep.jobs[0].overrides.items() if name not in own}
