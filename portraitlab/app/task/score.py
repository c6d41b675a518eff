"""Score a trained run again, under other references, selection, sampler or metrics."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig

from portraitlab.app.experiment import Bench, show
from portraitlab.app.task.same_data import check_same_data, warn_of_other_data
from portraitlab.runs.key import plain
from portraitlab.runs.records import record_table
from portraitlab.runs.run import Run


class ScoreRun:
    """A task that adds a record to a trained run, or shows the record that exists.

    run: a run's folder, or None for the run that the configuration describes.
    """

    def __init__(self, run: str | None = None) -> None:
        self.run = run

    def __call__(self, config: DictConfig) -> dict[str, Any]:
        """Return the record. Raises NoRun (a ValueError) without a trained run."""
        run = Run.of(plain(config), self.run)
        run.require_weights()
        record = run.sound_record()
        if record is None:
            bench = Bench.of(config)
            if self.run is None:  # another run may be scored on other photos
                check_same_data(run, bench.data)
            bench.load(run)
            record = bench.score(run)
        elif self.run is None:
            warn_of_other_data(run, config)
        show(run, record_table(record))
        return record
