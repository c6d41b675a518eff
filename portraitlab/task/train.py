"""Train a model, then score it: the program's main job."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

from hydra.utils import instantiate
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig

from portraitlab.bench import Bench, show
from portraitlab.data.batches import TrainingBatches
from portraitlab.fitting import fit
from portraitlab.loggers import close, mirror, written_log
from portraitlab.precision import precision_of
from portraitlab.processes import process_rank
from portraitlab.records import Run, plain


class Train:
    """Trains the run that a configuration describes, or goes on with it, and scores it."""

    def __call__(self, config: DictConfig) -> dict[str, Any]:
        """The record, which also lies in the run's folder; empty in processes beside the first.

        A run that is finished is only shown. Raises ValueError for what the user can mend.
        """
        settings = plain(config)
        run = Run.of(settings)
        first = process_rank() == 0
        if config.fresh and first:
            run.clear()
        record = run.record()
        if record is None:
            bench = Bench.of(config)
            batches = TrainingBatches(
                bench.data.train_photos(bench.parts.frozen),
                refs=config.refs,
                batch_size=config.batch_size,
                steps=config.budget.steps,
                seed=config.seed,
                prompt_dropout=config.prompt_dropout,
            )
            with ExitStack() as stack:
                if first:
                    if not run.weights.is_file():  # else it tells how they were trained
                        run.describe(settings)
                    stack.enter_context(run.watched("training"))
                    stack.enter_context(written_log(run.folder / "log.txt"))
                record = train_and_score(config, settings, run, bench, batches)
        if first:
            show(run, record)
        return record


def train_and_score(
    config: DictConfig,
    settings: dict[str, Any],
    run: Run,
    bench: Bench,
    batches: TrainingBatches,
) -> dict[str, Any]:
    """The record of a run, trained where its weights are not there yet."""
    flat = {**settings["choices"], "refs": config.refs, "seed": config.seed, "config": settings}
    # Partial, or Hydra would instantiate what the settings describe as well.
    logger: Logger | bool = instantiate(config.logger, _partial_=True)(
        folder=run.folder, name=run.folder.name, key=run.key, settings=flat
    )
    try:
        if run.weights.is_file():
            bench.load(run.weights)
        else:
            started = time.monotonic()
            # With net=none nothing is trained, and the bare backbone is scored.
            trains = bool(bench.parts.model.trained_parameters())
            if trains and not fit(config, run, bench.parts, batches, logger):
                return {}
            run.note(
                training_seconds=round(time.monotonic() - started, 1),
                precision=precision_of(config.trainer),
            )
            bench.save(run.weights)
        run.state("scoring")
        record = bench.score(run)
        mirror(logger, run.record_folder, record)
        run.state("finished")
        return record
    finally:
        close(logger)
