"""Train a model, then score it: the main job."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from portraitlab.app.experiment import Bench, show
from portraitlab.app.task.same_data import check_same_data, warn_of_other_data
from portraitlab.data.batches import TrainingBatches
from portraitlab.runs.key import plain
from portraitlab.runs.records import record_table
from portraitlab.runs.run import Run, earlier_run
from portraitlab.runs.status import Status
from portraitlab.support.devices import is_rank
from portraitlab.support.processes import process_count, process_rank
from portraitlab.training.build import check_published
from portraitlab.training.fitting import fit, training_precision
from portraitlab.training.logged import read_losses
from portraitlab.training.loggers import opened, written_log
from portraitlab.training.stopping import StopSignals


class Train:
    """A task that trains the run of a configuration, or resumes it, and scores it.

    judged: True if `score` needs the judge and the metrics, which are built for it alone.
    """

    judged = True

    def score(self, bench: Bench, run: Run) -> dict[str, Any]:
        """Measure the trained model, write the record, and return it."""
        return bench.score(run)

    def show(self, run: Run, record: Mapping[str, Any]) -> None:
        """Print the record."""
        show(run, record_table(record))

    def __call__(self, config: DictConfig) -> dict[str, Any]:
        """Return the record, which is also in the run's folder; {} in processes beside the first.

        A finished run is only shown. Raises ValueError for errors that the user can fix, and
        Preempted where a signal or trainer.max_time stopped the run.
        """
        settings = plain(config)
        run = Run.of(settings)
        first = process_rank() == 0
        record = run.sound_record()
        if record is None:
            with ExitStack() as stack:
                signals = stack.enter_context(StopSignals(patient=is_rank()))
                status = None
                if first:
                    status = stack.enter_context(Status(run.folder))
                    stack.enter_context(written_log(run.folder / "log.txt"))
                record = self._train_and_score(config, settings, run, signals, status)
        elif first:
            warn_of_other_data(run, config)
            with opened(config, settings, run, done=True) as mirror:
                if mirror is not None:
                    for line in read_losses(run.losses):
                        mirror.line(line)
                    mirror.record(record, run.record_folder)
        if first:
            self.show(run, record)
        return record

    def _train_and_score(
        self,
        config: DictConfig,
        settings: dict[str, Any],
        run: Run,
        signals: StopSignals,
        status: Status | None,
    ) -> dict[str, Any]:
        """Train a run unless its weights exist, score it, and return the record.

        status: None in processes beside the first, which only train and return {}.
        """
        # Build the parts and the photos.
        earlier = None if config.init is None else earlier_run(config.init, Path(config.runs))
        if not run.weights.is_file():
            check_published(config, "objective")
        bench = Bench.of(config, self.judged)
        if status is not None:
            check_same_data(run, bench.data)
        trained = run.weights.is_file()
        # With net=none or no step nothing is trained, and the model is scored as it is.
        trains = bool(config.budget.steps and bench.parts.model.trained_parameters())
        if trains and not trained:
            batches = TrainingBatches(
                bench.train_photos(),
                refs=config.refs,
                batch_size=config.batch_size,
                steps=config.budget.steps,
                seed=config.seed,
                prompt_dropout=config.prompt_dropout,
                order=config.order,
                target_as_reference=config.target_as_reference,
            )

        # Train, or load the weights, then score. A trained run is described as it was trained.
        if status is not None and not trained:
            run.describe(settings)
        with opened(config, settings, run) as mirror:
            if trained:
                bench.load(run)
            else:
                if status is not None:
                    status.doing("training", config.budget.steps)
                if earlier is not None:
                    bench.load(earlier)
                seconds = (
                    fit(config, run, bench.parts, batches, mirror, signals, status)
                    if trains
                    else 0.0
                )
                if status is None or seconds is None:
                    return {}
                bench.save(
                    run,
                    training_seconds=round(seconds, 1),
                    precision=training_precision(config, bench.parts.frozen.backbone),
                    processes=process_count(),
                )
            if status is None:
                return {}
            status.doing("scoring")
            record = self.score(bench, run)
            if mirror is not None:
                mirror.record(record, run.record_folder)
            return record
