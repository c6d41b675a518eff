"""Runs and records: a run is one training, a record one scoring of it; both are named by content.

A run's folder is a pure function of the part of the configuration that decides what is trained:
the same command finds the same folder, in any process and on any day. Inside it

    config.yaml         the resolved configuration
    status.json         state: training, scoring, finished or failed (with the reason)
    checkpoints/        to resume from
    model.safetensors   what was trained, once training ended; training.json: how long it took
    metrics.json        the record; grid.png beside it
    scores/<hash>/      records of the same weights scored otherwise
    log.txt             losses and messages
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue

# What decides which weights come out.
TRAINING = (
    *("backbone", "encoder", "data", "fusion", "cond", "net", "objective", "recogniser"),
    *("refs", "seed", "batch_size", "prompt_dropout", "optimiser"),
    *("trainer.max_steps", "trainer.gradient_clip_val", "trainer.precision"),
)
# What of the data only scoring reads: the same training is scored under all of it.
ONLY_SCORED = tuple(
    f"data.{name}"
    for name in ("score_identities", "score_photos", "split", "targets", "judges", "noise_seeds")
)
# What decides, beside the weights, which figures come out.
SCORING = ("data", "refs", "select", "sampler", "metrics", "judge")
# Where things lie and how many processes make them changes no figure.
PLACES = ("cache", "workers")


class NoRun(ValueError):
    """No trained run where one is asked for."""


def plain(config: DictConfig) -> dict[str, Any]:
    """The resolved configuration as plain containers; ValueError where a value is missing."""
    try:
        container = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        name = error.full_key
        raise ValueError(f"{name} has no value and needs one; give it as {name}=VALUE") from error
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}


def content_hash(
    config: Mapping[str, Any], paths: tuple[str, ...], without: tuple[str, ...] = ()
) -> str:
    """Eight hexadecimal digits that name the content at these dotted paths of a configuration.

    without: dotted paths one below them that have no say.
    """
    content = {}
    for path in paths:
        value: Any = config
        for name in path.split("."):
            value = value[name]
        if isinstance(value, Mapping):
            value = {
                name: item
                for name, item in value.items()
                if name not in PLACES and f"{path}.{name}" not in without
            }
        content[path] = value
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def write_text(path: Path, text: str) -> None:
    """Write a whole file or none: through a neighbour that is then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{os.getpid()}")
    half.write_text(text, encoding="utf-8")
    half.replace(path)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON atomically. Not-a-number has no place in JSON: ValueError."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


@dataclass(frozen=True)
class Run:
    """One training: its folder and the hashes of what it trains and how it is scored."""

    folder: Path
    key: str
    scoring: str

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Run:
        """The run that a resolved configuration describes; touches no disk."""
        key = content_hash(config, TRAINING, without=ONLY_SCORED)
        names = config["choices"]
        parts = [names["fusion"], names["cond"], names["net"]]
        name = "-".join([*parts, f"r{config['refs']}", f"s{config['seed']}", key])
        return cls(
            Path(config["runs"]) / names["system"] / name, key, content_hash(config, SCORING)
        )

    @property
    def weights(self) -> Path:
        """What was trained; there only when training came to its end."""
        return self.folder / "model.safetensors"

    @property
    def checkpoint(self) -> Path:
        """The last state that training can go on from."""
        return self.folder / "checkpoints" / "last.ckpt"

    @property
    def record_folder(self) -> Path:
        """Where the record of this scoring lies: the run's folder, or below it for a second one."""
        first = _read(self.folder / "metrics.json")
        if first is None or first["scoring"] == self.scoring:
            return self.folder
        return self.folder / "scores" / self.scoring

    def record(self) -> dict[str, Any] | None:
        """The finished record of this run and scoring, if there is one."""
        return _read(self.record_folder / "metrics.json")

    def clear(self) -> None:
        """Forget all of the run: its training starts anew."""
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def describe(self, config: Mapping[str, Any]) -> None:
        """Write config.yaml."""
        write_text(self.folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(dict(config))))

    def state(self, name: str, **details: Any) -> None:
        """Write status.json."""
        write_json(self.folder / "status.json", {"state": name, **details})

    def note(self, **facts: Any) -> None:
        """Write training.json: what is known of the training once it ended."""
        write_json(self.folder / "training.json", facts)

    @contextmanager
    def watched(self, state: str) -> Iterator[None]:
        """Keep status.json true while something runs: a failure is written down, then raised.

        A process that is killed leaves `state`, which is not `finished`.
        """
        self.state(state)
        try:
            yield
        except (KeyboardInterrupt, SystemExit):
            self.state("stopped")
            raise
        except BaseException as error:
            reason = str(error) or type(error).__name__
            self.state("failed", error=reason, traceback=traceback.format_exc())
            raise


def trained_run(config: Mapping[str, Any], folder: str | None) -> Run:
    """The run in `folder`, or the configuration's own; NoRun if it has no trained weights."""
    own = Run.of(config)
    run = own if folder is None else Run(Path(folder), own.key, own.scoring)
    if not run.weights.is_file():
        raise NoRun(
            f"no trained run in {run.folder}: {run.weights.name} is not there; train it first with "
            "task=train and the same choices, or give a run's folder as task.run=FOLDER"
        )
    return run


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
