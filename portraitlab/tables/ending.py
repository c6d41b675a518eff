"""What a command with `table=` ends with: results, README and figures written, the table shown."""

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
    """Collect what the jobs gave into the table's folder, and show the rows that were asked for.

    Where the command set what the table does not declare (another budget, say), the results are
    no results of the table: they are collected in the sweep's folder, as a table of its own.
    arguments: of the command. Returns the folder.
    """
    jobs = [(table.row_of(job.overrides), int(job.overrides["seed"]), job) for job in sweep.jobs]
    asked = _asked(table, jobs)
    if not _is_declared(table, jobs):
        table = asked = replace(
            asked,
            folder=sweep.folder,
            command=" ".join(["python run.py", *map(quote, arguments)]),
            overrides=_common(table, sweep),
        )
        write_text(sweep.folder / "table.yaml", table.declaration())
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
    results = read_results(asked)
    for view in (paper_view(asked, results, failed), *order_views(asked, results)):
        view.show()
    write_readme(table)
    print(f"table: {table.folder / 'README.md'}")
    return table.folder


def write_readme(table: PaperTable) -> None:
    """Draw the figures of what a table's folder holds, and write its README.md around them."""
    results = read_results(table)
    drawn = figures(table, results)
    write_figures(table.folder, drawn)
    write_text(table.folder / "README.md", readme(table, results, drawn))


def _keep(table: PaperTable, row: PaperRow, result: Result, job: SweepJob) -> None:
    """Write a result; of the first seed with what it drew."""
    if result.seed == table.seeds[0]:
        strip = result_path(table.folder, row, result.seed).with_suffix(".png")
        shown = keep_pictures(job.run.record_folder / "samples", strip)
        if shown is not None:
            result = replace(result, content={**result.content, "shown": shown})
    write_result(table.folder, row, result)


def _copy(table: PaperTable, row: PaperRow, published: Path) -> None:
    """Write a result that another table has, with its pictures."""
    result = result_from(published, row)
    own = result_path(table.folder, row, result.seed)
    strip, people = published.with_suffix(".png"), published.with_name("people.png")
    if result.seed == table.seeds[0] and strip.is_file():
        write_bytes(own.with_suffix(".png"), strip.read_bytes())
        if not own.with_name("people.png").is_file():
            write_bytes(own.with_name("people.png"), people.read_bytes())
    write_result(table.folder, row, result)


def _asked(table: PaperTable, jobs: Sequence[tuple[PaperRow, int, SweepJob]]) -> PaperTable:
    """The table with the rows and seeds of the jobs alone."""
    rows = [row for row in table.rows if any(row is job[0] for job in jobs)]
    return replace(table, rows=tuple(rows), seeds=tuple(dict.fromkeys(job[1] for job in jobs)))


def _is_declared(table: PaperTable, jobs: Sequence[tuple[PaperRow, int, SweepJob]]) -> bool:
    if any(seed not in table.seeds for _, seed, _ in jobs):
        return False
    # What a command sets, it sets in all rows, so one tells of all.
    row, seed, job = jobs[0]
    declared = declared_run(table, row, seed)
    return (declared.key, declared.scoring) == (job.run.key, job.run.scoring)


def _common(table: PaperTable, sweep: Sweep) -> dict[str, str]:
    """What all rows were given."""
    own = ("table", "seed", *table.told_by)
    return {name: value for name, value in sweep.jobs[0].overrides.items() if name not in own}
