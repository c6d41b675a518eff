"""Hash the settings that determine a run's weights and a record's scores.

A component counts by the name of its class or function, which is unique in the project, and not by
the file that it is in: a key survives moves. The miniature's models count by their weights, so that
a run is trained again when the foundation was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from portraitlab.runs.edition import edition
from portraitlab.support import groups
from portraitlab.support.checks import check_values

# Settings that change the trained weights.
TRAINING = (
    *groups.TRAINING,
    *("refs", "seed", "batch_size", "prompt_dropout", "optimiser", "order"),
    *("trainer.max_steps", "trainer.gradient_clip_val", "trainer.precision"),
    *("ema_decay", "init", "precision", "target_as_reference", "augment"),
)
# Settings added later, with the value that older runs had implicitly: at that value the key is
# unchanged.
SINCE = {
    **{"order": "shuffled", "ema_decay": None, "init": None, "judge.fid_features": None},
    **{"precision": "32-true", "judge.precision": "32-true", "target_as_reference": False},
    **{"augment": 0, "net.alpha": 1.0, "net.beta": 1.0, "cond.drawn": None},
    **{"transform": {"_target_": "NoTransform"}, "edit": {"_target_": "NoEdit"}},
    "customise": {"_target_": "NoCustomisation"},
    **{"task.degrees": None, "task.shares": None, "edit_by": None},
    "descriptors": {"_target_": "MatchingNet", "timestep": 261},
}
# The same, for settings of one class only.
SINCE_IN: dict[str, dict[str, Any]] = {
    "PreparedData": {
        "matting": {"_target_": "NoMatting"},
        "minimum_side": 32,
    },
    "WorldData": {"framing": "portrait", "score_framing": None},
    "Judge": {"detector": None, "dino": None},
    "Adapter": {"start": None},
    "InstantID": {"adapter_start": None},
}
# Settings that draw with trained weights: RepControlNet's (eq. 6), and what a control image shows.
_DRAWN = ("net.alpha", "net.beta", "cond.drawn")
# Settings that scoring alone reads: they leave the training's key unchanged.
ONLY_SCORED = (
    *(
        f"data.{name}"
        for name in (
            *("score_identities", "score_photos", "split", "targets", "targets_of", "judges"),
            *("noise_seeds", "real_photos", "score_framing"),
        )
    ),
    *_DRAWN,
)
PROTOCOL = 3
"""Edition of the scoring protocol, in the hash of every scoring; raise it whenever the same
settings give other scores. Records of the first edition have none, and those of the second were
judged by the CLIP and the regressor that condition and train."""
# Settings of task=match, which other tasks do not have.
_MATCHED = ("task.degrees", "task.shares")
# Settings that, with the weights, determine the scores.
SCORING = (
    *("protocol", *groups.SCORING, "score_refs", "judge", "precision", *_DRAWN, *_MATCHED),
    "edit_by",
)
# Settings that change no weight and no score: folders, numbers of processes, hardware.
PLACES = ("cache", "workers", "providers")
_OWN = "portraitlab."


def plain(config: DictConfig) -> dict[str, Any]:
    """Resolve a configuration to plain containers. Raises ValueError where a value is missing."""
    check_values(config)
    container = OmegaConf.to_container(config, resolve=True)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def content_hash(
    config: Mapping[str, Any], paths: tuple[str, ...], without: tuple[str, ...] = ()
) -> str:
    """Hash the settings at dotted paths of a configuration to eight hexadecimal digits.

    without: dotted paths, one level below, that are left out.
    """
    return _digest(_content(config, paths, without))


def decisive(config: Mapping[str, Any]) -> dict[str, Any]:
    """Select the settings that determine the scores, by dotted path."""
    return _content(config, tuple(dict.fromkeys((*TRAINING, *SCORING))))


def keys_of(settings: Mapping[str, Any]) -> tuple[str, str]:
    """Recompute a run's key and its scoring's from the result of `decisive`."""
    return (
        _digest(_chosen(settings, TRAINING, without=ONLY_SCORED)),
        _digest(_chosen(settings, SCORING)),
    )


def run_key(name: str) -> str:
    """Return the key at the end of a run's path or name, or the key itself, unchecked."""
    return Path(name).name.rpartition("-")[2]


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def _chosen(
    settings: Mapping[str, Any], paths: tuple[str, ...], without: tuple[str, ...] = ()
) -> dict[str, Any]:
    content = {}
    for path in (path for path in paths if path in settings):
        value = settings[path]
        if isinstance(value, Mapping):
            value = {name: item for name, item in value.items() if f"{path}.{name}" not in without}
        content[path] = value
    return content


def _content(
    config: Mapping[str, Any], paths: tuple[str, ...], without: tuple[str, ...] = ()
) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for path in paths:
        if path == "protocol":
            content[path] = PROTOCOL
            continue
        value: Any = config
        for name in path.split("."):
            # A setting that was added later may be missing, as all of a setting of another class.
            if path in SINCE and name not in value:
                value = SINCE[path]
                break
            value = value[name]
        if path in SINCE and _by_name(value) == SINCE[path]:
            continue
        value = run_key(str(value)) if path == "init" else _by_name(value)
        if isinstance(value, Mapping):
            before = SINCE_IN.get(str(value.get("_target_")), {})
            value = {
                name: item
                for name, item in value.items()
                if (place := f"{path}.{name}") not in without
                and not (place in SINCE and item == SINCE[place])
                and not (name in before and item == before[name])
            }
        content[path] = value
    return content


def _by_name(value: Any) -> Any:
    """Drop PLACES from settings, at any depth, and name components by class instead of by path.

    Models of the foundation have the edition of their weights too.
    """
    if not isinstance(value, Mapping):
        return value
    kept = {name: _by_name(item) for name, item in value.items() if name not in PLACES}
    target = kept.get("_target_")
    if isinstance(target, str) and target.startswith(_OWN):
        kept["_target_"] = target.rpartition(".")[2]
        if (found := edition(kept["_target_"], kept.get("name"))) is not None:
            kept["edition"] = found
    return kept
