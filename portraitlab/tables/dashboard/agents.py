"""Build the YAML of a sweep that W&B's agents run, from overrides as on run.py's command line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, get_args

from portraitlab.support.checks import check_choice

Method = Literal["grid", "random", "bayes"]

_NAME = re.compile(r"[+~]*[A-Za-z_][\w./@]*")


def agents_sweep(
    overrides: Sequence[str], method: Method = "grid", project: str = "portraitlab"
) -> dict[str, Any]:
    """Build a W&B sweep over the choices of overrides such as fusion=refiner,concat.

    An override with one choice is the same in every job.

    Raises ValueError for an unknown method, for an argument that is not an override, for an empty
    choice or one with brackets, which an agent passes on as text, and if nothing is swept.
    """
    check_choice("method", method, get_args(Method))
    parameters = dict(_parameter(override) for override in overrides)
    if not any("values" in parameter for parameter in parameters.values()):
        raise ValueError(
            f"{' '.join(overrides) or 'no override'}: nothing is swept; give a group or a setting "
            "several choices, as in fusion=refiner,concat"
        )
    return {
        "project": project,
        "program": "run.py",
        "method": method,
        "metric": {"name": "score/sim_f", "goal": "maximize"},
        "parameters": parameters,
        # Hydra reads overrides without hyphens.
        "command": ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}"],
    }


def _parameter(override: str) -> tuple[str, dict[str, Any]]:
    name, equals, text = override.partition("=")
    choices = text.split(",")
    if (
        not equals
        or not _NAME.fullmatch(name)
        or not all(choices)
        or re.search(r"[()\[\]{}]", text)
    ):
        raise ValueError(
            f"{override!r}: not an override that an agent can pass on; write NAME=CHOICE or "
            "NAME=CHOICE,CHOICE without spaces or brackets"
        )
    values = [_number_or_text(choice) for choice in choices]
    return name, {"value": values[0]} if len(values) == 1 else {"values": values}


def _number_or_text(choice: str) -> int | float | str:
    """Parse numbers, so that W&B draws them on an axis; keep all else as text."""
    for kind in (int, float):
        try:
            return kind(choice)
        except ValueError:
            pass
    return choice
