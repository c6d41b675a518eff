"""What a paper's table still lacks, and how long that will take on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median

from portraitlab.runs.files import DamagedFile, read_json
from portraitlab.runs.origin import machine
from portraitlab.runs.run import Run
from portraitlab.runs.survey import FoundRun, look, run_folders
from portraitlab.tables.composing import composed, declared_arguments
from portraitlab.tables.paper_table import PaperTable
from portraitlab.tables.results import read_results


@dataclass(frozen=True)
class Outlook:
    """Results that are there, of how many; and what is left for the others.

    trainings and scorings: how many, each training counted once however many rows score it.
    seconds: what they take one after another, from the medians of runs of the same scale on this
    machine; None where none was timed.
    """

    done: int
    total: int
    trainings: int
    scorings: int
    seconds: float | None


def outlook(table: PaperTable, runs: Path) -> Outlook:
    """The outlook of a table, with the runs below a folder."""
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
            if run.record() is None:
                scorings += 1
            if not run.weights.is_file():
                steps[run.key] = settings["budget"]["steps"]
    seconds = _seconds(sum(steps.values()), scorings, scale, runs)
    return Outlook(len(there), total, len(steps), scorings, seconds)


def _seconds(steps: int, scorings: int, scale: str, runs: Path) -> float | None:
    if not steps and not scorings:
        return 0.0
    found = [look(folder) for folder in run_folders(runs)] if runs.is_dir() else []
    here = [each for each in found if _is_like(each, scale)]
    a_step = [seconds for each in here if (seconds := _step_seconds(each)) is not None]
    a_scoring = [
        each.record["scoring_seconds"] for each in here if "scoring_seconds" in each.record
    ]
    if (steps and not a_step) or (scorings and not a_scoring):
        return None
    return (steps * median(a_step) if steps else 0.0) + (
        scorings * median(a_scoring) if scorings else 0.0
    )


def _is_like(found: FoundRun, scale: str) -> bool:
    """Whether a run is of this scale, and of a machine like this one."""
    try:
        made = read_json(found.folder / "origin.json", needs=["machine"])
        return made is not None and made["machine"] == machine() and found.setting("scale") == scale
    except (DamagedFile, KeyError):
        return False


def _step_seconds(found: FoundRun) -> float | None:
    try:
        noted = read_json(found.folder / "training.json", needs=["training_seconds"])
    except DamagedFile:
        return None
    if noted is None or not noted["training_seconds"]:
        return None
    seconds: float = noted["training_seconds"] / found.setting("steps")
    return seconds
