"""The training loop of all foundation models: seeded, time-limited, resumable."""

from __future__ import annotations

import argparse
import copy
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from portraitlab.support.precision import quick_attention
from portraitlab.world.pretrained import entry

Model = TypeVar("Model", bound=nn.Module)
_SEED_STRIDE = 1_000_003


@dataclass(frozen=True)
class Trained(Generic[Model]):
    """A trained model, frozen on the CPU, and the record of its training."""

    model: Model
    record: dict[str, Any]


@dataclass(frozen=True)
class Budget:
    """Time, folders and device of a training.

    minutes: training time over all calls (a call resumes from saved work). The learning rate falls
    to zero over the last quarter. work: folder of saved trainings. cache: folder of rendered
    photos. device: "cpu" or "cuda". half: bfloat16 autocast. from_shipped: without saved work,
    continue from the weights in the package, whose steps and minutes count; heads and optimiser
    start afresh. compiled: compile the model first, which takes minutes and pays off in a training
    of hours.
    """

    minutes: float
    work: Path
    cache: Path
    device: str = "cpu"
    half: bool = True
    seed: int = 0
    workers: int = 2
    from_shipped: bool = False
    compiled: bool = False


def step_of(generator: torch.Generator, budget: Budget) -> int:
    """Return the number of the step that a loss's generator was seeded for."""
    return generator.initial_seed() - budget.seed * _SEED_STRIDE


def take_which(choices: Sequence[str]) -> str:
    """Remove `--which NAME` from the command line, for scripts that train several models.

    Raises:
        SystemExit: no name, or none of `choices`.
    """
    position = sys.argv.index("--which") if "--which" in sys.argv else -1
    which = sys.argv[position + 1] if 0 < position < len(sys.argv) - 1 else ""
    if which not in choices:
        raise SystemExit(f"--which {which or '(missing)'}: choose {' or '.join(choices)}")
    del sys.argv[position : position + 2]
    return which


def budget_arguments(description: str, minutes: float, seed: int = 0) -> Budget:
    """Parse the command line of a training script; `minutes` and `seed` are defaults."""
    # Time, folders and device.
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--minutes", type=float, default=minutes, help="training time over all calls"
    )
    parser.add_argument("--work", type=Path, default=Path(".cache/portraitlab/work"))
    parser.add_argument("--cache", type=Path, default=Path(".cache/portraitlab"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    # Numbers, randomness and start.
    parser.add_argument("--full-precision", action="store_true", help="no bfloat16 autocast")
    parser.add_argument("--seed", type=int, default=seed)
    parser.add_argument("--workers", type=int, default=2, help="processes that render")
    parser.add_argument(
        "--from-shipped",
        action="store_true",
        help="without saved work, start from the packaged weights",
    )
    parser.add_argument("--compile", action="store_true", help="compile the model first")
    given = parser.parse_args()
    return Budget(
        given.minutes,
        given.work,
        given.cache,
        given.device,
        not given.full_precision,
        given.seed,
        given.workers,
        given.from_shipped,
        given.compile,
    )


def train(
    name: str,
    model: Model,
    loss: Callable[[Model, torch.Generator], dict[str, Tensor]],
    budget: Budget,
    learning_rate: float,
    weight_decay: float = 0.01,
    warmup: int = 200,
    average: float = 0.0,
    watch: Callable[[Model], str] | None = None,
) -> Trained[Model]:
    """Train `model` on `loss`, and return it, or its moving average, in eval mode.

    Args:
        loss: takes the model and a CPU generator, returns named terms; their sum is minimised.
        average: decay of an exponential moving average of the weights, 0 for none.
        watch: called at every saving with the weights that would be returned; its line is printed.
    """
    # Build the optimiser and the moving average.
    budget.work.mkdir(parents=True, exist_ok=True)
    path = budget.work / f"{name}.state.pt"
    device = torch.device(budget.device)
    model.to(device).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        trained, learning_rate, betas=(0.9, 0.99), weight_decay=weight_decay, fused=True
    )
    averaged = copy.deepcopy(model).eval() if average else model
    if budget.compiled:
        model.compile()
    # Resume from saved work, or continue from the shipped weights.
    step, spent, cold = 0, 0.0, 0
    if path.exists():
        state = torch.load(path, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        averaged.load_state_dict(state["averaged"])
        optimiser.load_state_dict(state["optimiser"])
        step, spent = state["step"], state["seconds"]
        print(f"{name}: resuming from step {step}, {spent / 60:.1f} min", flush=True)
    elif budget.from_shipped:
        shipped = entry(name)["training"]
        step, spent, cold = shipped["steps"], shipped["minutes"] * 60, shipped["steps"]
    total = budget.minutes * 60
    history: dict[str, float] = {}
    last, saved = _seconds(device), time.monotonic()
    while spent < total:
        # Set the learning rate: warm-up, then a fall to zero over the last quarter.
        generator = torch.Generator().manual_seed(budget.seed * _SEED_STRIDE + step)
        rate = (
            learning_rate
            * min(1.0, (step - cold + 1) / warmup)
            * min(1.0, 4 * (1 - spent / total) + 0.01)
        )
        for group in optimiser.param_groups:
            group["lr"] = rate
        # Step on the sum of the loss terms.
        half = torch.autocast(device.type, torch.bfloat16, enabled=budget.half)
        with half, quick_attention(device):
            terms = loss(model, generator)
        value = torch.stack(list(terms.values())).sum()
        if not torch.isfinite(value):
            raise ValueError(
                f"{name}: loss is {value.item()} at step {step}; "
                f"lower the learning rate {learning_rate}"
            )
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        if average:
            _follow(averaged, model, min(average, (step + 1) / (step + 10)))
        step += 1
        if step % 50 == 0:
            for key, term in terms.items():
                history[key] = 0.8 * history.get(key, term.item()) + 0.2 * term.item()

        # Save every two minutes and at the end.
        now = _seconds(device)
        spent, last = spent + now - last, now
        if time.monotonic() - saved > 120 or spent >= total:
            state = {
                "model": model.state_dict(),
                "averaged": averaged.state_dict(),
                "optimiser": optimiser.state_dict(),
                "step": step,
                "seconds": spent,
            }
            _save(path, state)
            terms_now = " ".join(f"{key} {value:.4f}" for key, value in history.items())
            seen = watch(averaged.eval()) if watch else ""
            model.train()
            print(f"{name}: step {step}, {spent / 60:.1f} min, {terms_now} {seen}", flush=True)
            last, saved = _seconds(device), time.monotonic()
    averaged.to("cpu").eval().requires_grad_(False)
    minutes = round(spent / 60, 1)
    return Trained(
        averaged,
        {"steps": step, "minutes": minutes, "device": budget.device, "seed": budget.seed},
    )


def _seconds(device: torch.device) -> float:
    """Read a clock of the time that `device` computes for this process, in seconds.

    On a CPU it is the processor time per thread of torch, so that other work on the machine makes a
    training longer but not worse.
    """
    if device.type == "cpu":
        return time.process_time() / torch.get_num_threads()
    return time.monotonic()


@torch.no_grad()
def _follow(averaged: nn.Module, model: nn.Module, decay: float) -> None:
    pairs = list(zip(averaged.state_dict().values(), model.state_dict().values(), strict=True))
    floats = [(mine, new) for mine, new in pairs if mine.is_floating_point()]
    torch._foreach_lerp_([mine for mine, _ in floats], [new for _, new in floats], 1 - decay)


def _save(path: Path, state: dict) -> None:
    part = path.with_suffix(f".part-{os.getpid()}")
    torch.save(state, part)
    os.replace(part, path)
