"""A thin Lightning module that steps, logs and configures the optimiser."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities import GradClipAlgorithmType
from torch import Tensor

from portraitlab.method.model import PortraitModel
from portraitlab.method.objective.weighted import Objective
from portraitlab.support.checks import check_choice, check_whole
from portraitlab.support.precision import quick_attention
from portraitlab.support.ranks import Split
from portraitlab.types import Batch

Schedule = Literal["constant", "cosine"]


class NonFiniteLoss(ValueError):
    """The loss became infinite or not a number; a further step would spoil the weights."""


class PortraitModule(lightning.LightningModule):
    """The training of a PortraitModel's trained parameters with Adam and linear warm-up.

    All randomness of a step is a function of seed and step. Hence a resumed training equals an
    uninterrupted one, and processes that share a batch train as one process with the whole batch.
    Checkpoints contain trained parameters only.

    zero_learning_rate: learning rate of the parameters that start at zero (the net's zero
    convolutions), which must grow before anything else can learn; None uses learning_rate.
    steps: length of the training; the cosine schedule and the objective's progress are relative
    to it.

    Raises ValueError for an unknown schedule or a length below 1.
    """

    strict_loading = False

    def __init__(
        self,
        model: PortraitModel,
        objective: Objective,
        *,
        learning_rate: float,
        steps: int,
        zero_learning_rate: float | None = None,
        warmup_steps: int = 0,
        schedule: Schedule = "constant",
        weight_decay: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_choice("optimiser.schedule", schedule, get_args(Schedule))
        self.model = model
        self.objective = objective
        self.learning_rate = learning_rate
        self.zero_learning_rate = (
            learning_rate if zero_learning_rate is None else zero_learning_rate
        )
        self.steps = check_whole("budget.steps", steps)
        self.warmup_steps = warmup_steps
        self.schedule = schedule
        self.weight_decay = weight_decay
        self.seed = seed

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Evaluate the objective. Raises NonFiniteLoss where the loss is not finite."""
        step, model = self.global_step, self.model
        with quick_attention(self.device):
            losses = self.objective(
                model,
                model.transform.apply(model.with_drawing(batch), step),
                generator=step_generator(self.seed, step),
                progress=step / self.steps,
                step=step,
                split=Split(self.global_rank, self.trainer.world_size),
            )
        if not torch.isfinite(losses["loss"]):
            terms = ", ".join(f"{name}={loss.item()}" for name, loss in losses.items())
            raise NonFiniteLoss(
                f"The loss is not finite at step {step} ({terms}). What was saved before is kept; "
                "lower optimiser.learning_rate, or look for broken photos in the data."
            )
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]  # set without a type
        if every and (step + 1) % every == 0:  # loggers ignore other steps, and logging costs time
            logged = {f"train/{name}": loss.detach() for name, loss in losses.items()}
            # Mean over all processes: the loss of the whole batch.
            self.log_dict(logged, batch_size=len(batch), sync_dist=True)
        return losses["loss"]

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Recompute checkpointed blocks with the same attention kernels as the forward pass."""
        with quick_attention(self.device):
            super().backward(loss, *args, **kwargs)

    def learning_rate_factor(self, step: int) -> float:
        """Scale the learning rate of a step: linear warm-up, then constant or cosine to 0."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.schedule == "constant":
            return 1.0
        done = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip gradients by their norm.

        Lightning refuses to do so for a fused optimiser in mixed precision, because float16
        gradients would still be scaled; bfloat16 gradients are not scaled.

        Raises ValueError for another algorithm than the norm.
        """
        algorithm = GradClipAlgorithmType(gradient_clip_algorithm or "norm")
        if algorithm is not GradClipAlgorithmType.NORM:
            raise ValueError(
                f"trainer.gradient_clip_algorithm is {algorithm.value!r}; only 'norm' is known."
            )
        if gradient_clip_val:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, gradient_clip_val)

    def configure_optimizers(self) -> Any:
        """Build Adam (Sec. 4.1), with decoupled weight decay where weight_decay is positive."""
        starting_at_zero = self.model.net.starting_at_zero()
        known = {id(parameter) for parameter in starting_at_zero}
        others = [p for p in self.model.trained_parameters() if id(p) not in known]
        groups = [
            {"params": others, "lr": self.learning_rate},
            {"params": starting_at_zero, "lr": self.zero_learning_rate},
        ]
        optimiser = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=self.learning_rate,
            weight_decay=self.weight_decay,
            # Fused is one pass over all weights, on the CPU too. It is off in float16: gradients
            # would still be scaled when they are clipped.
            fused=self.trainer.precision != "16-mixed",
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, self.learning_rate_factor)
        return {
            "optimizer": optimiser,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Return the trained weights under the names of PortraitModel.trained_state_dict."""
        return self.model.trained_state_dict()

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load trained weights, always strictly (see PortraitModel.load_trained_state_dict)."""
        self.model.load_trained_state_dict(state_dict)


def step_generator(seed: int, step: int) -> torch.Generator:
    """Create a CPU generator whose numbers depend on `seed` and `step` alone."""
    state = np.random.SeedSequence((seed, step)).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 32 | int(state[1]))
