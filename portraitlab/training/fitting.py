"""Train a model with Lightning: progress, checkpoints to resume from, and the final weights."""

from __future__ import annotations

import logging
import warnings
from math import prod

import torch
from hydra.utils import instantiate
from lightning import Trainer
from lightning.fabric.plugins.environments import LightningEnvironment
from omegaconf import DictConfig
from torch import Tensor

from portraitlab.data.batches import TrainingBatches
from portraitlab.data.loader import PortraitData
from portraitlab.diffusion.backbone import Backbone
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

# Lightning's warnings about what is intended: batches are gathered from memory, so worker processes
# would only add copies; frozen models stay in eval mode; smoke runs end before the first log line.
_EXPECTED = (
    ".*does not have many workers.*",
    ".*in eval mode at the start of training.*",
    ".*smaller than the logging interval.*",
    ".*LeafSpec.*is deprecated.*",
)


def training_precision(config: DictConfig, backbone: Backbone) -> str:
    """Return Lightning's name of the precision in which nets on a backbone are trained.

    Raises ValueError for a precision that training does not support.
    """
    half = backbone.unet.dtype != torch.float32
    return precision_of(config.trainer, half_weights=half)


def fit(
    config: DictConfig,
    run: Run,
    parts: Parts,
    batches: TrainingBatches,
    mirror: WandbMirror | None = None,
    signals: StopSignals | None = None,
    status: Status | None = None,
) -> float | None:
    """Train `parts.model`, resuming from the run's latest checkpoint if it has one.

    With ema_decay, the final weights are the moving average. Returns the seconds of training; None
    in all processes but the first.

    mirror: a logger that repeats the losses. signals: signals that stop the training after a step.
    status: the run's status, updated with the steps.

    Raises NonFiniteLoss where a loss is not finite, Preempted where a signal or trainer.max_time
    stopped the training.
    """
    # Build the module that Lightning trains.
    objective = build_beside(config.objective, config, parts.frozen.encoder)
    module = PortraitModule(
        parts.model,
        objective,
        steps=config.budget.steps,
        seed=config.seed,
        **config.optimiser,
    )
    if config.gradient_checkpointing:
        parts.model.enable_gradient_checkpointing()

    # Choose the callbacks.
    precision, group = training_precision(config, parts.frozen.backbone), environment()
    signals = StopSignals() if signals is None else signals
    checkpoints = Checkpoints(run.checkpoints, config.scale.checkpoint_every)
    averaging = None if config.ema_decay is None else Averaging(parts.model, config.ema_decay)
    callbacks = [
        *([] if averaging is None else [averaging]),  # before the checkpoints that save it
        Losses(run.losses, config.trainer.log_every_n_steps, mirror.line if mirror else None),
        checkpoints,
        TrainingBar(status),
        StopAfterStep(signals, checkpoints, _log_stop, time_limit(config.trainer)),
    ]

    # Build the trainer.
    with warnings.catch_warnings(), cast_once(module, precision):
        for pattern in _EXPECTED:
            warnings.filterwarnings("ignore", pattern)
        trainer: Trainer = instantiate(
            config.trainer,
            precision=precision,
            max_time=None,  # StopAfterStep applies it
            logger=False,
            callbacks=callbacks,
            enable_checkpointing=False,  # Lightning's own does not recognise damaged files
            default_root_dir=str(run.folder),
            # Lightning would take an allocation of SLURM for a group.
            plugins=[LightningEnvironment() if group is None else group],
        )

        def encode(shape: FaceGeometry, target: FaceGeometry) -> Tensor | None:
            device = parts.device
            with trainer.precision_plugin.forward_context():
                return parts.model.drawing(shape.to(device), target.to(device))

        # Train, from the latest checkpoint if there is one.
        resumes = checkpoints.resumes
        trainer.fit(
            module,
            PortraitData(
                batches,
                encode if parts.model.draws_ahead else None,
                prod(parts.model.drawing_shape),
                parts.device,
            ),
            ckpt_path=None if resumes is None else str(resumes),
            weights_only=True,
        )
    if averaging is not None:
        averaging.finish()
    return checkpoints.seconds if trainer.is_global_zero else None


def _log_stop(step: int) -> None:
    _log.info("stopped and saved after step %d; the same command resumes there", step)
