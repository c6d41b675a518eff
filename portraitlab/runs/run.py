"""Runs and records: a run is one training, a record one scoring of it; both are named by content.

A run's folder is a pure function of the settings that change the trained weights: the same command
finds the same folder, in any process and on any day. It contains

    config.yaml         the resolved configuration
    origin.json         commit, versions and machine of the training
    data.json           a digest of the training photos, where they may change
    status.json         queued, running (with a heartbeat), done, failed (with the error), preempted
    metrics.jsonl       the losses, a line every few steps
    checkpoints/        states to resume from
    model.safetensors   the trained weights, once training ended; training.json: its duration
    metrics.json        the record; grid.png and samples/ beside it
    scores/<hash>/      records of the same weights with other scoring settings
    log.txt             messages
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired

from omegaconf import OmegaConf
from typing_extensions import TypedDict

from portraitlab.runs.key import ONLY_SCORED, SCORING, TRAINING, content_hash, run_key
from portraitlab.runs.origin import origin
from portraitlab.runs.status import set_aside
from portraitlab.runs.survey import find_run
from portraitlab.support.files import DamagedFile, read_json, write_json, write_text
from portraitlab.support.groups import NAMING

if TYPE_CHECKING:
    from torch import Tensor

_log = logging.getLogger(__name__)

TRAINING_TASKS = ("train", "match")
"""Tasks that train the run of a configuration before they measure it."""


class Figure(TypedDict):
    """Schema of a metric's figure in a record; value and error are None where not measured."""

    value: float | None
    error: NotRequired[float | None]
    higher_is_better: bool


class Record(TypedDict):
    """Schema of every record."""

    scoring: str
    metrics: dict[str, Figure]
    bounds: dict[str, dict[str, Figure]]
    images: int
    faceless: int


class _DataFile(TypedDict):
    digest: str


class _TrainingFile(TypedDict, total=False):
    sha256: str
    training_seconds: float
    precision: str
    processes: int


class NoRun(ValueError):
    """A run that a command needs is not trained."""


@dataclass(frozen=True)
class Run:
    """One training: its folder, the hash of its training settings and that of its scoring."""

    folder: Path
    key: str
    scoring: str

    @classmethod
    def of(cls, config: Mapping[str, Any], folder: str | None = None) -> Run:
        """Return the run that a resolved configuration describes, or the one in `folder`.

        Reads and writes no file.
        """
        key = content_hash(config, TRAINING, without=ONLY_SCORED)
        names = config["choices"]
        parts = (names[group] for group in NAMING)
        name = "-".join([*parts, f"r{config['refs']}", f"s{config['seed']}", key])
        own = Path(config["runs"]) / names["system"] / name
        place = own if folder is None else Path(folder)
        return cls(place, key, content_hash(config, SCORING))

    @property
    def weights(self) -> Path:
        """The file of the trained weights, which exists once training ended."""
        return self.folder / "model.safetensors"

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.folder / "checkpoints"

    @property
    def losses(self) -> Path:
        """The file of the losses, one JSON line every few steps."""
        return self.folder / "metrics.jsonl"

    @property
    def begun(self) -> bool:
        """True if the run has weights, or a checkpoint to resume from."""
        return self.weights.is_file() or any(self.checkpoints.glob("*.ckpt"))

    @property
    def record_folder(self) -> Path:
        """The folder of this scoring's record: the run's own for the first, else one below it."""
        own = self.folder / "scores" / self.scoring
        try:
            first = read_json(self.folder / "metrics.json", Record)
        except DamagedFile:
            return own if own.is_dir() else self.folder
        return self.folder if first is None or first["scoring"] == self.scoring else own

    def record(self) -> dict[str, Any] | None:
        """Read the finished record of this run and scoring; None where there is none."""
        return read_json(self.record_folder / "metrics.json", Record)

    def sound_record(self) -> dict[str, Any] | None:
        """Read the finished record; None, with a message, for one that is damaged.

        Damaged weights, which it may have been made of, are named too.
        """
        try:
            record = self.record()
        except DamagedFile as error:
            _log.warning("%s; it is made again from the weights", str(error).partition(";")[0])
            return None
        if record is not None and self.weights.is_file():
            try:
                self.check_weights()
            except DamagedFile as error:
                _log.warning("the record was made with intact weights; since then %s", error)
        return record

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Write the record of this scoring."""
        write_json(self.record_folder / "metrics.json", record, summed=True)

    def require_weights(self) -> None:
        """Check that the weights exist. Raises NoRun where they do not."""
        if not self.weights.is_file():
            raise NoRun(
                f"no trained run in {self.folder}: {self.weights.name} is not there; train it "
                "first with task=train and the same choices, or give a run's folder as "
                "task.run=FOLDER"
            )

    def read_weights(self) -> dict[str, Tensor]:
        """Read the trained weights by name. Raises DamagedFile where the file has changed."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        self.check_weights()
        try:
            return load_file(self.weights)
        except SafetensorError as error:
            raise DamagedFile(f"{self._damaged_weights} ({error})") from error

    def check_weights(self) -> None:
        """Compare the trained weights with their sum. Raises DamagedFile where they differ."""
        from portraitlab.support.hashes import file_digest  # imports torch

        noted = self.noted().get("sha256")
        if noted is not None and noted != file_digest(self.weights):
            raise DamagedFile(self._damaged_weights)

    @property
    def _damaged_weights(self) -> str:
        return f"the weights {self.weights} are damaged; train them again with fresh=true"

    def forget(self, task: str) -> None:
        """Remove what a task would reuse: the whole run before a training, else the record.

        The run is deleted when the new training begins, and put back where it does not.
        """
        if task == "train":
            set_aside(self.folder)
        else:
            (self.record_folder / "metrics.json").unlink(missing_ok=True)

    def describe(self, config: Mapping[str, Any]) -> None:
        """Write config.yaml and origin.json."""
        _write_config(self.folder, config)
        write_json(self.folder / "origin.json", origin())

    def describe_scoring(self, config: Mapping[str, Any]) -> None:
        """Write the config.yaml of this scoring's record."""
        _write_config(self.record_folder, config)

    def note(self, **facts: Any) -> None:
        """Write training.json, facts about the finished training."""
        write_json(self.folder / "training.json", facts)

    def note_data(self, digest: str) -> None:
        """Write data.json, the digest of the photos at the start of the training."""
        write_json(self.folder / "data.json", {"digest": digest})

    def data_digest(self) -> str | None:
        """Read the digest of `note_data`; None for photos that cannot change or were not hashed."""
        noted = read_json(self.folder / "data.json", _DataFile)
        return None if noted is None else str(noted["digest"])

    def trained_by(self) -> dict[str, Any] | None:
        """Read origin.json: commit, versions and machine of the training; None without it."""
        return read_json(self.folder / "origin.json")

    def noted(self) -> dict[str, Any]:
        """Read the facts of `note`; empty where the run is not trained."""
        return read_json(self.folder / "training.json", _TrainingFile) or {}


def earlier_run(name: str, runs: Path) -> Run:
    """Find the trained run that `init` names, by its folder or, below `runs`, by its key.

    Raises:
        ValueError: there is no such run, or several.
        NoRun: it has no trained weights.
    """
    key = run_key(name)
    if not re.fullmatch("[0-9a-f]{8}", key):
        raise ValueError(
            f"init={name} does not end in a run's key; give a run's folder, or the eight digits "
            "that its name ends in (portraitlab runs lists them)"
        )
    run = Run(Path(name) if Path(name).is_dir() else find_run(key, runs), key, "")
    run.require_weights()
    return run


def _write_config(folder: Path, config: Mapping[str, Any]) -> None:
    write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(dict(config))))
