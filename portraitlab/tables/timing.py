"""Estimate the time of training steps and scorings from earlier ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from portraitlab.runs.origin import machine, place
from portraitlab.runs.survey import FoundRun, look, read_record, run_folders
from portraitlab.support.files import DamagedFile, read_json


@dataclass
class Timing:
    """Seconds of single training steps and scorings, and the machine that took them.

    where: "here", or the machine's name.
    """

    where: str
    a_step: list[float] = field(default_factory=list)
    a_scoring: list[float] = field(default_factory=list)

    def seconds(self, steps: int, scorings: int) -> float | None:
        """Multiply steps and scorings by the median times; None where none was timed."""
        if (steps and not self.a_step) or (scorings and not self.a_scoring):
            return None
        return sum(
            count * median(taken)
            for count, taken in ((steps, self.a_step), (scorings, self.a_scoring))
            if count
        )


def timed_here(runs: Path, scale: str) -> Timing:
    """Collect the times of a scale's runs below a folder that were made on a machine like this one.

    Machines are compared by processor and GPUs alone, since parallel runs have fewer cores each.
    """
    timing, here = Timing("here"), machine()
    for found in map(look, run_folders(runs)) if runs.is_dir() else ():
        if not found.config or found.setting("scale") != scale:
            continue
        if _is_like(here, _whole(found.folder / "origin.json")):
            trained = _whole(found.folder / "training.json")
            _note_training(timing, trained, found.setting("steps"))
        for record in _records(found):
            if _is_like(here, record.get("origin", {})):
                _note_scoring(timing, record)
    return timing


def timed_for(results: Iterable[Mapping[str, Any]], scale: str) -> Timing:
    """Collect the times of tables' results of a scale, from the machine that made most of them."""
    by_machine: dict[str, Timing] = {}
    for content in results:
        made = content.get("trained_by") or content.get("origin")
        if made is not None and content.get("scale") == scale:
            timing = by_machine.setdefault(place(made), Timing(place(made)))
            _note_training(timing, content, content["steps"])
            _note_scoring(timing, content)
    return max(by_machine.values(), key=lambda each: len(each.a_step), default=Timing("nowhere"))


def _note_training(timing: Timing, noted: Mapping[str, Any], steps: int) -> None:
    if noted.get("training_seconds"):
        timing.a_step.append(noted["training_seconds"] / steps)


def _note_scoring(timing: Timing, record: Mapping[str, Any]) -> None:
    if "scoring_seconds" in record:
        timing.a_scoring.append(record["scoring_seconds"])


def _records(found: FoundRun) -> Iterator[Mapping[str, Any]]:
    yield found.record
    for name in found.scorings:
        try:
            yield read_record(found.folder / "scores" / name / "metrics.json")
        except DamagedFile:  # `portraitlab runs` reports it; it only has no time
            continue


def _is_like(here: Mapping[str, Any], made: Mapping[str, Any]) -> bool:
    there = made.get("machine", {})
    return all(there.get(name) == here[name] for name in ("processor", "gpus"))


def _whole(path: Path) -> Mapping[str, Any]:
    try:
        return read_json(path) or {}
    except DamagedFile:
        return {}
