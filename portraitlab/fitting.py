"""Training by Lightning: progress, checkpoints to resume from, and what was trained at the end."""

from __future__ import annotations

import logging
import warnings
from typing import Any

from hydra.utils import instantiate
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig
from torch import Tensor

from portraitlab.data.batches import TrainingBatches
from portraitlab.data.loader import PortraitData
from portraitlab.module import PortraitModule
from portraitlab.parts import Parts
from portraitlab.precision import cast_once, precision_of, quick_attention
from portraitlab.progress import TrainingBar
from portraitlab.records import Run
from portraitlab.types import FaceGeometry

_log = logging.getLogger(__name__)

# What Lightning warns of and is meant here: batches are gathers from memory, which worker processes
# would only copy about; frozen models stay in eval mode; smoke runs end before the first log line.
_EXPECTED = (
    ".*does not have many workers.*",
    ".*in eval mode at the start of training.*",
    ".*smaller than the logging interval.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*LeafSpec.*is deprecated.*",
)


def fit(
    config: DictConfig, run: Run, parts: Parts, batches: TrainingBatches, logger: Logger | bool
) -> bool:
    """Train `parts.model`, going on from the run's checkpoint if it has one.

    False in processes other than the first, which have nothing more to do. Raises NonFiniteLoss
    where a loss is no number.
    """
    objective = instantiate(config.objective)
    module = PortraitModule(
        parts.model, objective, steps=config.budget.steps, seed=config.seed, **config.optimiser
    )
    checkpoints = ModelCheckpoint(
        dirpath=run.checkpoint.parent.absolute(),
        filename=run.checkpoint.stem,
        every_n_train_steps=config.scale.checkpoint_every,
        enable_version_counter=False,
    )
    precision = precision_of(config.trainer)
    with warnings.catch_warnings(), cast_once(module, precision):
        for pattern in _EXPECTED:
            warnings.filterwarnings("ignore", pattern)
        trainer: Trainer = instantiate(
            config.trainer,
            precision=precision,
            logger=logger,
            callbacks=[checkpoints, TrainingBar(), LossLines(config.trainer.log_every_n_steps)],
            default_root_dir=str(run.folder),
        )

        def encode(shape: FaceGeometry, target: FaceGeometry) -> Tensor | None:
            device = parts.device
            with trainer.precision_plugin.forward_context(), quick_attention(device):
                return parts.model.control_latents(shape.to(device), target.to(device))

        resume = str(run.checkpoint) if run.checkpoint.is_file() else None
        trainer.fit(module, PortraitData(batches, encode), ckpt_path=resume, weights_only=True)
    return bool(trainer.is_global_zero)


class LossLines(Callback):
    """Writes the losses to the run's log.txt every so many steps."""

    def __init__(self, every: int) -> None:
        self.every = every

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Write one line."""
        if trainer.global_step % self.every == 0:
            losses = trainer.callback_metrics.items()
            line = " ".join(f"{name} {float(value):.4f}" for name, value in losses)
            _log.debug("step %d: %s", trainer.global_step, line)
