"""Answer overrides of run.py that cannot be read, or that nothing reads, with the likely ones."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import OmegaConf

from portraitlab.support.errors import UserError
from portraitlab.support.paths import CONF
from portraitlab.support.printing import setting


def check_overrides(overrides: Sequence[str]) -> None:
    """Check the overrides of a command line, before Hydra composes them.

    Raises UserError for one that cannot be read, with its value quoted; for null as a choice; and
    for a name that no setting or group has, also with `+`, with the nearest one.
    """
    parser = OverridesParser.create()
    for text in overrides:
        name, equals, value = text.partition("=")
        try:
            override = parser.parse_override(text)
        except HydraException as error:
            advice = f"quote the value, as {setting(name, value)}" if equals else "give NAME=VALUE"
            raise UserError(f"{text} is not understood: {advice}") from error
        _check(override, overrides)


def explained(error: Exception, overrides: Sequence[str]) -> str:
    """Return the message of an error of composing, with the nearest name or choice."""
    text = str(error)
    if unknown := re.search(r"Could not override '([^']+)'", text):
        reason = str(error.__cause__ or "no such setting").splitlines()[0]
        return f"{unknown[1]}: {reason}{_near(unknown[1], _settings(overrides))}"
    if isinstance(error, MissingConfigException):
        group, _, choice = (error.missing_cfg_file or "").partition("/")
        choices = [path.stem for path in (CONF / group).glob("*.yaml")]
        near = get_close_matches(choice, choices, 1)
        return text + (f"\ndid you mean {group}={near[0]}?" if near else "")
    return text


def _check(override: Override, overrides: Sequence[str]) -> None:
    name = override.key_or_group
    first, *below = name.split(".")
    if first.partition("/")[0] == "hydra":
        return
    groups = {path.name for path in CONF.iterdir() if path.is_dir()}

    # A group without a choice has no settings for what reads them.
    if name in groups and override.value() is None and not override.is_delete():
        raise UserError(f"{name}=null: null is not a choice{_null(name)}")

    # A name must be read by a setting of conf/, or by another override.
    own = yaml.safe_load((CONF / "config.yaml").read_text(encoding="utf-8"))
    named = first in groups or first in own
    part = own.get(first)
    if named and override.is_add() and below and _is_numbers(part):
        named = below[0] in part
    if not named and not any(re.search(rf"\$\{{.*\b{re.escape(first)}\b", o) for o in overrides):
        raise UserError(f"{name}: no setting has this name{_near(name, _settings(()))}")


def _is_numbers(part: Any) -> bool:
    """Check for a mapping of settings that build no component, whose names are all in config.yaml.

    What builds a component refuses names by itself.
    """
    return isinstance(part, Mapping) and "_target_" not in part


def _null(group: str) -> str:
    return f"; give {group}=none" if (CONF / group / "none.yaml").is_file() else ""


def _near(name: str, known: Iterable[str]) -> str:
    """Name the known setting that is nearest: by its letters, its last part, or its initials."""
    # Numbers of the scale are those that other settings take.
    known = sorted(known, key=lambda each: each.startswith("scale."))
    last = name.split(".")[-1]
    ends = {each.split(".")[-1]: each for each in reversed(known)}
    initials = {"".join(word[0] for word in end.split("_") if word): end for end in ends}
    for found in (
        *(ends[end] for end in (last,) if end in ends),
        *get_close_matches(name, known, 1, 0.75),
        *(ends[end] for end in get_close_matches(last, ends, 1, 0.75)),
        *(ends[initials[each]] for each in (last,) if each in initials and len(each) > 1),
    ):
        return f"; did you mean {found}?"
    return "; python run.py --help lists all"


def _settings(overrides: Sequence[str]) -> list[str]:
    """List the groups, and the dotted names of all settings under the choices of overrides."""
    chosen = []
    for text in overrides:
        group, _, choice = text.partition("=")
        if choice and (CONF / group / f"{choice}.yaml").is_file():
            chosen.append(text)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", chosen)
    groups = sorted(path.name for path in CONF.iterdir() if path.is_dir())
    return [*groups, *_dotted(OmegaConf.to_container(config))]


def _dotted(settings: Any, above: str = "") -> Iterator[str]:
    if isinstance(settings, dict):
        for name, value in settings.items():
            yield f"{above}{name}"
            yield from _dotted(value, f"{above}{name}.")
