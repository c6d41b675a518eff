"""Select, change and check the settings of an exported run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from pathlib import Path, PurePath
from typing import Any

import yaml
from hydra.errors import InstantiationException

from portraitlab.support.groups import DRAWING, EXPORTED
from portraitlab.support.hub import describes_repository, folder_setting
from portraitlab.support.paths import CONF

_PLACES = {
    *("root", "folder", "autoencoder_folder", "detector", "recogniser", "weights", "file"),
    "pretrained_model_name_or_path",
}
"""Settings that, if they are text, name a file or folder of one machine."""

_CACHED = {"folder", "autoencoder_folder"}
"""Settings of _PLACES that default to the Hugging Face hub's cache."""


_CONTROLNET = "diffusers.ControlNetModel.from_pretrained"
"""The loader of a user's own ControlNet; it executes no code from the files."""


def drawing_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Select the settings of a run that draw its portraits, without this machine's paths.

    Raises ValueError where they name a class that conf/ does not.
    """
    data = config["data"]
    settings = {name: config[name] for name in DRAWING}
    nothing = {"_target_": "portraitlab.faces.matting.none.NoMatting"}
    settings["matting"] = data.get("matting", nothing)
    settings["minimum_side"] = data.get("minimum_side", 32)
    settings["seed"], settings["refs"] = config["seed"], config["refs"]
    check_known(settings)
    return {name: _without_places(value) for name, value in settings.items()}


def needed_places(config: Mapping[str, Any]) -> list[str]:
    """List the dotted names of the paths that the user of an export must give."""
    built = {name: config[name] for name in DRAWING}
    built["matting"] = config["data"].get("matting", {})
    return [
        name
        for name, key, value in _walk(built)
        if key in _PLACES - _CACHED and isinstance(value, str)
    ]


def with_changes(
    settings: Mapping[str, Any], needed: Sequence[str], changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Change an export's settings by dotted name.

    Errors about missing published weights then name the export's settings.

    Raises ValueError for an unknown name, for a value of another kind than the export's, where a
    needed path is not given, and where the export's own settings contain a path.
    """
    # Refuse exports with paths of a machine, in whatever form.
    for name, key, value in _walk(settings):
        component = isinstance(value, Mapping) and "_target_" in value
        if key in _PLACES and value is not None and not component:
            raise ValueError(
                f"{name} is {value!r}: an export contains no paths of a machine, so this one was "
                "changed; fetch it again from a source that you trust."
            )

    # Apply the user's changes.
    changed: dict[str, Any] = deepcopy(dict(settings))
    for name, value in changes.items():
        *above, last = name.split(".")
        part = changed
        for step in above:
            part = part[step] if isinstance(part.get(step), dict) else {}
        if last not in part:
            raise ValueError(f"{name} is not a setting of this export; see its portraitlab.json")
        _check_kind(name, part[last], value)
        part[last] = deepcopy(value)

    # Name the folder's setting in the export: in the run, several parts may have shared one.
    for name, _, value in _walk(changed):
        if describes_repository(value):
            value["setting"] = folder_setting(name)

    # Check that all needed paths are given; a part that is replaced as a whole needs none.
    missing = [name for name in needed if not {name, name.split(".")[0]} & changes.keys()]
    if missing:
        raise ValueError(
            f"This export needs paths on this machine: {', '.join(missing)}; give them as "
            f"`--set {missing[0]}=PATH`, or settings={{'{missing[0]}': 'PATH'}} in Python "
            "(see docs/encoders.md and docs/face3d.md for the files)."
        )
    check_known(changed)
    return changed


def check_known(settings: Mapping[str, Any]) -> None:
    """Check that settings build only classes of conf/, by the arguments that conf/ gives them.

    A run or an export may come from anybody, and instantiating executes the `_target_`. Raises
    ValueError for other classes and arguments, for interpolations, for a ControlNet that is not on
    this machine, and for values that are not a mapping, list or scalar.
    """
    for name in DRAWING:
        part = settings.get(name)
        if not isinstance(part, Mapping) or "_target_" not in part:
            raise ValueError(f"{name} has no _target_, so it does not describe a component.")
    for name, _, value in _walk(settings):
        if isinstance(value, Mapping):
            _check_arguments(name, value)
        elif not isinstance(value, str | int | float | list | PurePath | None):
            raise ValueError(f"{name} is a {type(value).__name__}, which no settings contain.")
        if isinstance(value, str) and "${" in value:
            raise ValueError(f"{name} is {value!r}: an interpolation has no place in an export.")


def _check_arguments(name: str, part: Mapping[str, Any]) -> None:
    """Check that conf/ builds the target of a part, and gives it each of the part's arguments."""
    arguments: frozenset[str] | None = None
    if "_target_" in part:
        target = part["_target_"]
        arguments = _built().get(target) if isinstance(target, str) else None
        if arguments is None:
            raise ValueError(
                f"{name}._target_ is {target!r}, which no file of conf/ names, so it is refused; "
                "if you trust it, add a choice with this _target_ to conf/."
            )
    for key in part:
        special = str(key).startswith("_") and key != "_target_"
        if special or (arguments is not None and key != "_target_" and key not in arguments):
            raise ValueError(
                f"{name}.{key} is an argument that no file of conf/ gives "
                f"{part.get('_target_', name)}, so it is refused."
            )
    folder = part.get("pretrained_model_name_or_path")
    if folder is not None and not Path(folder).is_dir():
        raise ValueError(
            f"{name}.pretrained_model_name_or_path={folder!r} is not a folder on this machine."
        )


def published_in(settings: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """List the descriptions of Hugging Face repositories in settings, at any depth."""
    return [value for _, _, value in _walk(settings) if describes_repository(value)]


@contextmanager
def own_errors() -> Iterator[None]:
    """Re-raise a component's own ValueError, which Hydra wraps, inside `with`."""
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
    """Check that numbers, switches and components keep their kind. Raises ValueError if not.

    Text and lists are checked by the component, which may accept either.
    """
    wanted = None
    if isinstance(own, bool):
        wanted = None if isinstance(value, bool) else "true or false"
    elif isinstance(own, int | float):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        wanted = None if number else f"a number, as the export's own {own}"
    elif isinstance(own, Mapping) and not isinstance(value, Mapping):
        # A component inside another is optional; those of DRAWING are not.
        spared = value is None and "." in name
        wanted = None if spared else f"a component's settings, one by one as {name}.NAME=VALUE"
    if wanted is not None:
        raise ValueError(f"{name} is {value!r}; give {wanted}")


@cache
def _built() -> dict[str, frozenset[str]]:
    """Collect the targets in conf/ that draw, and that of ControlNets, with their arguments."""
    found = {_CONTROLNET: frozenset({"pretrained_model_name_or_path"})}
    for path in (path for group in EXPORTED for path in (CONF / group).glob("*.yaml")):
        file = yaml.safe_load(path.read_text(encoding="utf-8"))
        for _, _, part in _walk({"": file}):
            if isinstance(part, Mapping) and "_target_" in part:
                target = part["_target_"]
                found[target] = found.get(target, frozenset()) | part.keys() - {"_target_"}
    return found


def _walk(value: Any, name: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield dotted name, last key and value of all nested entries."""
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


def another_base(backbone: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Set the backbone's weights to another checkpoint of the same base.

    Raises ValueError where there is no such folder.
    """
    if not folder.is_dir():
        raise ValueError(
            f"{folder} is no folder; give a checkpoint in diffusers' layout. A single file becomes "
            "one by diffusers' from_single_file(FILE).save_pretrained(FOLDER)."
        )
    return {**backbone, "folder": str(folder)}
