"""Check the trainer's settings before anything is loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from portraitlab.support.precision import precision_of

_LENGTH = "budget.steps=NUMBER sets the length of a training"
# By setting: the only accepted value besides null, and the alternative to name in the error.
_REFUSED: dict[str, tuple[object, str]] = {
    "accumulate_grad_batches": (
        1,
        "a smaller batch_size or gradient_checkpointing=true takes less memory",
    ),
    "max_epochs": (-1, _LENGTH),
    "limit_train_batches": (None, _LENGTH),
    "overfit_batches": (0, "debug=overfit overfits two people"),
    "use_distributed_sampler": (False, "each process takes its share of a batch by itself"),
    "fast_dev_run": (False, "debug=fast runs the whole program in a few steps"),
}


def check_trainer(trainer: Mapping[str, Any], steps: int) -> None:
    """Check that the trainer's settings leave the training as the run's key describes it.

    Batches and noise are functions of the step, and one epoch contains all steps.
    steps: steps of the budget. Raises ValueError for settings that would change the training.
    """
    for name, (same, instead) in _REFUSED.items():
        value = trainer.get(name)
        if value is not None and value != same:
            raise ValueError(
                f"trainer.{name}={value} would change what is trained under the same name: "
                f"leave it out; {instead}"
            )
    precision_of(trainer)  # for what it raises
    time_limit(trainer)
    if trainer["max_steps"] != steps:
        raise ValueError(
            f"trainer.max_steps={trainer['max_steps']} with budget.steps={steps}: a training "
            "takes all steps of its budget; give their number as budget.steps alone"
        )


def time_limit(trainer: Mapping[str, Any]) -> float | None:
    """Parse trainer.max_time into seconds; None for no limit.

    Raises ValueError for another form than DD:HH:MM:SS.
    """
    given = trainer.get("max_time")
    if given is None:
        return None
    form = re.fullmatch(r"(\d+):(\d\d):(\d\d):(\d\d)", str(given))
    if form is None:
        raise ValueError(
            f"trainer.max_time={given}: give days, hours, minutes and seconds as DD:HH:MM:SS, such "
            "as 00:08:00:00 for eight hours"
        )
    days, hours, minutes, seconds = map(int, form.groups())
    return timedelta(days, seconds, hours=hours, minutes=minutes).total_seconds()
