"""Settings of the trainer that no training is done with, known before anything is loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from portraitlab.support.precision import precision_of

_LENGTH = "how long a training is, budget.steps=NUMBER says"
# What leaves a training as it is, and what to do instead of anything else.
_REFUSED: dict[str, tuple[object, str]] = {
    "accumulate_grad_batches": (
        1,
        "a smaller batch_size or gradient_checkpointing=true takes less memory",
    ),
    "max_epochs": (-1, _LENGTH),
    "limit_train_batches": (None, _LENGTH),
    "overfit_batches": (0, "debug=overfit learns two people by heart"),
    "use_distributed_sampler": (False, "each process takes its share of a batch by itself"),
    "fast_dev_run": (False, "debug=fast takes the whole path in few steps"),
}


def check_trainer(trainer: Mapping[str, Any], steps: int) -> None:
    """ValueError where a training would not be the one that it is recorded as, or none.

    Batches and noise are those of a step, and one epoch holds all steps. steps: of the budget.
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
    """Seconds after which a training stops, by trainer.max_time; None is never.

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
