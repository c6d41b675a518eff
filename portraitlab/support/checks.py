"""Check values that a user gives, with one message for each kind of mistake."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from pydantic import ValidationError
    from torch import Tensor


def check_whole(
    name: str, value: Any, least: int = 1, most: int | None = None, hint: str = ""
) -> int:
    """Return a value that is a whole number in a range. Raises ValueError for any other.

    hint: further values that the setting takes, for the message.
    """
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        upwards = "" if most is None else f" to {most}"
        raise ValueError(f"{name}={value}: a whole number from {least}{upwards} is needed{hint}")
    return int(value)


def check_number(
    name: str,
    value: Any,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    most: float = math.inf,
    below: float = math.inf,
    hint: str = "",
) -> None:
    """Check that a value is a finite number in a range. Raises ValueError if it is not.

    hint: further values that the setting takes, or what they mean, for the message.
    """
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not (least <= value <= most and above < value < below):
        limits = {"from": least, "above": above, "up to": most, "and below": below}
        range_ = "".join(f" {word} {each}" for word, each in limits.items() if math.isfinite(each))
        kind = "number" if range_ else "finite number"
        raise ValueError(f"{name}={value}: a {kind}{range_} is needed{hint}")


def check_choice(name: str, value: Any, known: Iterable[str]) -> None:
    """Check that a value is one of the known names. Raises ValueError with all of them if not."""
    if value not in known:
        raise ValueError(f"{name}={value}: choose one of {', '.join(known)}")


def first_error(error: ValidationError) -> str:
    """Describe the first of pydantic's errors: the place in the content, the reason, the value."""
    first = error.errors()[0]
    place, reason = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
    if isinstance(first["input"], str | int | float | None):
        reason += f", not {str(first['input'])[:40]!r}"
    return f"{place}: {reason}" if place else reason


def check_finite(what: str, value: Tensor) -> None:
    """Check that a tensor has no NaN or infinity. Raises ValueError, which names it, if it has."""
    if not value.isfinite().all():
        raise ValueError(f"{what} is not finite: it has NaN or infinity")


def check_values(config: DictConfig) -> None:
    """Check that no value is missing.

    Raises ValueError with the name of the missing setting, not of one that refers to it.
    """
    from omegaconf import (  # imported late, as commands start quickly
        MissingMandatoryValue,
        OmegaConf,
    )

    try:
        OmegaConf.to_container(config, resolve=False, throw_on_missing=True)
    except MissingMandatoryValue as error:
        name = error.full_key
        raise ValueError(
            f"{name} has no value and needs one; give it as {name}=VALUE (python run.py --help "
            "lists what each choice needs)"
        ) from error
