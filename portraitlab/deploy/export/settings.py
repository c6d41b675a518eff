"""The settings of an exported run: which travel, which are this machine's, which may be built."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra.errors import InstantiationException

from portraitlab.support.hub import describes_repository, folder_setting
from portraitlab.support.paths import CONF

BUILT = ("backbone", "encoder", "cond", "fusion", "net", "select", "sampler")
"""The components that draw a portrait; all else of a run's configuration trained or scored it."""

_PLACES = {
    *("root", "folder", "autoencoder_folder", "detector", "recogniser", "weights", "file"),
    "pretrained_model_name_or_path",
}
"""Settings that, where they are text, name a file or folder of one machine."""

_CACHED = {"folder", "autoencoder_folder"}
"""Those of them that need no value: the Hugging Face hub's cache is looked into."""


_GROUPS = (*BUILT, "clip", "face3d", "matting", "scale")
"""Groups of conf/ of which these are made."""

_CONTROLNET = "diffusers.ControlNetModel.from_pretrained"
"""How a net is given a ControlNet of the user's own; it executes nothing that it reads."""


def drawing_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a run's resolved configuration draws its portraits, without this machine's places.

    Raises ValueError where it names something that conf/ does not.
    """
    data = config["data"]
    settings = {name: config[name] for name in BUILT}
    nothing = {"_target_": "portraitlab.faces.matting.none.NoMatting"}
    settings["matting"] = data.get("matting", nothing)
    settings["minimum_side"] = data.get("minimum_side", 32)
    settings["seed"], settings["refs"] = config["seed"], config["refs"]
    check_known(settings)
    return {name: _without_places(value) for name, value in settings.items()}


def needed_places(config: Mapping[str, Any]) -> list[str]:
    """The dotted names of the places that an export's user must give."""
    built = {name: config[name] for name in BUILT}
    built["matting"] = config["data"].get("matting", {})
    return [
        name
        for name, key, value in _walk(built)
        if key in _PLACES - _CACHED and isinstance(value, str)
    ]


def with_changes(
    settings: Mapping[str, Any], needed: Sequence[str], changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Settings with those changed that a user gives by dotted name.

    Published weights in them are told to be looked for under the export's own settings.

    Raises ValueError for a name that is none, for a value of another kind than the export's, where
    a needed place is not given, and where the settings that came with the export name a place
    themselves.
    """
    for name, key, value in _walk(settings):
        if key in _PLACES and isinstance(value, str):
            raise ValueError(
                f"{name} is {value!r}: an export names no place of a machine, so this one was "
                "changed; fetch it again from where you trust it."
            )
    changed: dict[str, Any] = _copied(settings)
    for name, value in changes.items():
        *above, last = name.split(".")
        part = changed
        for step in above:
            part = part[step] if isinstance(part.get(step), dict) else {}
        if last not in part:
            raise ValueError(f"{name} is no setting of this export; see its portraitlab.json")
        _check_kind(name, part[last], value)
        part[last] = _copied(value)
    # In the run's configuration one setting may have held the folder of several parts.
    for name, _, value in _walk(changed):
        if describes_repository(value):
            value["setting"] = folder_setting(name)
    # A part that is changed as a whole needs no more what it was.
    lacking = [name for name in needed if not {name, name.split(".")[0]} & changes.keys()]
    if lacking:
        raise ValueError(
            f"This export needs files of this machine for {', '.join(lacking)}; give them as "
            f"`--set {lacking[0]}=PATH`, or settings={{'{lacking[0]}': 'PATH'}} in Python "
            "(docs/encoders.md and docs/face3d.md say where to get them)."
        )
    check_known(changed)
    return changed


def check_known(settings: Mapping[str, Any]) -> None:
    """ValueError where settings would build what no file of conf/ builds, or interpolate.

    An export may come from anybody, and instantiating executes what `_target_` names.
    """
    for name, key, value in _walk(settings):
        if key == "_target_" and str(value) not in _targets():
            raise ValueError(
                f"{name} is {value!r}, which no file of conf/ builds, so it is not built here; if "
                "you trust it, add a choice with this _target_ to conf/."
            )
        if isinstance(value, str) and "${" in value:
            raise ValueError(f"{name} is {value!r}: an interpolation has no place in an export.")


def published_in(settings: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What of settings describes a Repository of the Hugging Face hub, at any depth."""
    return [value for _, _, value in _walk(settings) if describes_repository(value)]


@contextmanager
def own_errors() -> Iterator[None]:
    """Raise what a component says of its settings as it says it: Hydra wraps it."""
    try:
        yield
    except InstantiationException as error:
        cause: BaseException | None = error
        while isinstance(cause, InstantiationException):
            cause = cause.__cause__
        if isinstance(cause, ValueError):
            raise cause from error
        raise ValueError(f"{error}; see the settings of portraitlab.json") from error


def _check_kind(name: str, own: Any, value: Any) -> None:
    """ValueError where a number, a switch or a component is to become something else.

    Text and lists are left to the component, which may take either and says what it takes.
    """
    wanted = None
    if isinstance(own, bool):
        wanted = None if isinstance(value, bool) else "true or false"
    elif isinstance(own, int | float):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        wanted = None if number else f"a number, as the export's own {own}"
    elif isinstance(own, Mapping) and not isinstance(value, Mapping):
        # Inside of a component another may be left out; what draws needs each of its own.
        spared = value is None and "." in name
        wanted = None if spared else f"a component's settings, one by one as {name}.NAME=VALUE"
    if wanted is not None:
        raise ValueError(f"{name} is {value!r}; give {wanted}")


@cache
def _targets() -> frozenset[str]:
    """All that conf/ builds for drawing, and ControlNets."""
    paths = [path for group in _GROUPS for path in (CONF / group).glob("*.yaml")]
    files = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in paths]
    found = (value for file in files for _, key, value in _walk(file) if key == "_target_")
    return frozenset([*found, _CONTROLNET])


def _walk(value: Any, name: str = "") -> Iterator[tuple[str, str, Any]]:
    """Dotted name, last key and value of all that is nested."""
    items: Any = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, item in items:
        inner = f"{name}.{key}" if name else str(key)
        yield inner, str(key), item
        yield from _walk(item, inner)


def _without_places(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            key: None if key in _PLACES and isinstance(item, str) else _without_places(item)
            for key, item in value.items()
        }
    return value


def _copied(value: Any) -> Any:
    return {key: _copied(item) for key, item in value.items()} if isinstance(value, dict) else value


def another_base(backbone: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The backbone's settings with the weights of another checkpoint of the same base.

    Raises ValueError where there is no such folder.
    """
    if not folder.is_dir():
        raise ValueError(
            f"{folder} is no folder; give a checkpoint in diffusers' layout. A single file becomes "
            "one by diffusers' from_single_file(FILE).save_pretrained(FOLDER)."
        )
    return {**backbone, "folder": str(folder)}
