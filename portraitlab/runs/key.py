"""What names a run and a record: the parts of a configuration that decide what comes out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

# What decides which weights come out.
TRAINING = (
    *("backbone", "encoder", "data", "fusion", "cond", "net", "objective", "recogniser"),
    *("refs", "seed", "batch_size", "prompt_dropout", "optimiser", "order"),
    *("trainer.max_steps", "trainer.gradient_clip_val", "trainer.precision"),
    *("ema_decay", "precision"),
)
# What came after trainings were named, with what held before, under which the old names go on.
SINCE = {
    **{"order": "shuffled", "ema_decay": None, "judge.fid_features": None},
    **{"precision": "32-true", "judge.precision": "32-true"},
}
# The same of single components, by what they build.
SINCE_IN: dict[str, dict[str, Any]] = {
    "portraitlab.data.prepared.PreparedData": {
        "matting": {"_target_": "portraitlab.matting.none.NoMatting"},
        "minimum_side": 32,
    },
    "portraitlab.net.adapter.Adapter": {"start": None},
    "portraitlab.net.instantid.InstantID": {"adapter_start": None},
}
# What of the data only scoring reads: the same training is scored under all of it.
ONLY_SCORED = tuple(
    f"data.{name}"
    for name in (
        *("score_identities", "score_photos", "split", "targets", "targets_of", "judges"),
        *("noise_seeds", "real_photos"),
    )
)
PROTOCOL = 2
"""Edition of how portraits are scored, in the hash of every scoring; to be raised whenever the same
settings come to mean other figures. Records of the first edition have none."""
# What decides, beside the weights, which figures come out.
SCORING = (
    *("protocol", "data", "score_refs", "select", "sampler", "metrics", "judge", "precision"),
)
# Where things are made, and how many processes or which hardware make them, changes no figure.
PLACES = ("cache", "workers", "providers")


def plain(config: DictConfig) -> dict[str, Any]:
    """The resolved configuration as plain containers; ValueError where a value is missing."""
    check_values(config)
    container = OmegaConf.to_container(config, resolve=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def check_values(config: DictConfig) -> None:
    """ValueError where a value is missing, with its own name and not that of what refers to it."""
    try:
        OmegaConf.to_container(config, resolve=False, throw_on_missing=True)
    except MissingMandatoryValue as error:
        name = error.full_key
        raise ValueError(
            f"{name} has no value and needs one; give it as {name}=VALUE (python run.py --help "
            "says what each choice needs)"
        ) from error


def content_hash(
    config: Mapping[str, Any], paths: tuple[str, ...], without: tuple[str, ...] = ()
) -> str:
    """Eight hexadecimal digits that name the content at these dotted paths of a configuration.

    without: dotted paths one below them that have no say.
    """
    content = _content(config, paths, without)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def decisive(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that decide which figures come out, by dotted path."""
    return _content(config, tuple(dict.fromkeys((*TRAINING, *SCORING))))


def _content(
    config: Mapping[str, Any], paths: tuple[str, ...], without: tuple[str, ...] = ()
) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for path in paths:
        if path == "protocol":
            content[path] = PROTOCOL
            continue
        if path in SINCE and config.get(path, SINCE[path]) == SINCE[path]:
            continue
        value: Any = config
        for name in path.split("."):
            value = value[name]
        if isinstance(value, Mapping):
            before = SINCE_IN.get(str(value.get("_target_")), {})
            value = {
                name: _placeless(item)
                for name, item in value.items()
                if name not in PLACES
                and (place := f"{path}.{name}") not in without
                and not (place in SINCE and item == SINCE[place])
                and not (name in before and item == before[name])
            }
        content[path] = value
    return content


def _placeless(value: Any) -> Any:
    """A part of a configuration without PLACES, which may describe an encoder at any depth."""
    if isinstance(value, Mapping):
        return {name: _placeless(item) for name, item in value.items() if name not in PLACES}
    return value
