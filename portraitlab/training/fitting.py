"""Training by Lightning: progress, checkpoints to resume from, and what was trained at the end."""

from __future__ import annotations

import logging
import warnings
from math import prod

from hydra.utils import instantiate
from lightning import Trainer
from omegaconf import DictConfig
from torch import Tensor

from portraitlab.data.batches import TrainingBatches
from portraitlab.data.loader import PortraitData
from portraitlab.diffusion.precisions import cast_once
from portraitlab.runs.run import Run
from portraitlab.runs.status import Status
from portraitlab.support.precision import precision_of
from portraitlab.support.processes import environment
from portraitlab.training.averaging import Averaging
from portraitlab.training.build import Parts, build_beside
from portraitlab.training.checkpoints import Checkpoints
from portraitlab.training.loggers import WandbMirror
from portraitlab.training.losses import Losses
from portraitlab.training.module import PortraitModule
from portraitlab.training.progress import TrainingBar
from portraitlab.training.stopping import StopAfterStep, StopSignals
from portraitlab.training.trainer import time_limit
from portraitlab.types import FaceGeometry

_log = logging.getLogger(__name__)

# What Lightning warns of and is meant here: batches are gathers from memory, which worker processes
# would only copy about; frozen models stay in eval mode; smoke runs end before the first log line.
_EXPECTED = (
    ".*does not have many workers.*",
    ".*in eval mode at the start of training.*",
    ".*smaller than the logging interval.*",
    ".*LeafSpec.*is deprecated.*",
)


def fit(
    config: DictConfig,
    run: Run,
    parts: Parts,
    batches: TrainingBatches,
    mirror: WandbMirror | None = None,
    signals: StopSignals | None = None,
    status: Status | None = None,
) -> float | None:
    """Train `parts.model`, going on from the run's latest checkpoint if it has one.

    With ema_decay it ends as the average of its steps. Returns the seconds of training, None in
    processes other than the first, which have nothing more to do. mirror: repeats the losses.
    signals: what may stop it after a step. status: is told the steps.

    Raises NonFiniteLoss where a loss is no number, Preempted where a signal or trainer.max_time
    stopped it.
    """
    objective = build_beside(config.objective, config, parts.frozen.encoder)
    module = PortraitModule(
        parts.model, objective, steps=config.budget.steps, seed=config.seed, **config.optimiser
    )
    if config.gradient_checkpointing:
        parts.model.enable_gradient_checkpointing()
    precision, group = precision_of(config.trainer), environment()
    signals = StopSignals() if signals is None else signals
    checkpoints = Checkpoints(run.checkpoints, config.scale.checkpoint_every)
    averaging = None if config.ema_decay is None else Averaging(parts.model, config.ema_decay)
    callbacks = [
        *([] if averaging is None else [averaging]),  # before what saves it
        Losses(run.losses, config.trainer.log_every_n_steps, mirror.line if mirror else None),
        checkpoints,
        TrainingBar(status),
        StopAfterStep(signals, checkpoints, _say_stopped, time_limit(config.trainer)),
    ]
    with warnings.catch_warnings(), cast_once(module, precision):
        for pattern in _EXPECTED:
            warnings.filterwarnings("ignore", pattern)
        trainer: Trainer = instantiate(
            config.trainer,
            precision=precision,
            max_time=None,  # StopAfterStep's
            logger=False,
            callbacks=callbacks,
            enable_checkpointing=False,  # Lightning's takes a damaged file for a sound one
            default_root_dir=str(run.folder),
            plugins=None if group is None else [group],
        )

        def encode(shape: FaceGeometry, target: FaceGeometry) -> Tensor | None:
            device = parts.device
            with trainer.precision_plugin.forward_context():
                return parts.model.drawing(shape.to(device), target.to(device))

        resumes = checkpoints.resumes
        trainer.fit(
            module,
            PortraitData(batches, encode, prod(parts.model.drawing_shape), parts.device),
            ckpt_path=None if resumes is None else str(resumes),
            weights_only=True,
        )
    if averaging is not None:
        averaging.finish()
    return checkpoints.seconds if trainer.is_global_zero else None


def _say_stopped(step: int) -> None:
    _log.info("stopped and saved after step %d; the same command goes on from there", step)
