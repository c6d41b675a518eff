"""What training, scoring and sampling need alike, checked before any of them starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from safetensors.torch import load_file, save_file

from portraitlab.data.photo_set import PhotoSet
from portraitlab.data.scoring import ScoringSet
from portraitlab.data.source import PhotoSource
from portraitlab.judge import Judge
from portraitlab.metrics.metric import PortraitMetric
from portraitlab.parts import Parts, build_parts
from portraitlab.pictures import save
from portraitlab.processes import process_rank
from portraitlab.records import Run, write_json
from portraitlab.sampler.ddim import DDIM
from portraitlab.scoring import draw, measure, picture
from portraitlab.tables.scores import record_table


@dataclass(frozen=True)
class Bench:
    """The parts, the held-out photos, and what scores them."""

    config: DictConfig
    parts: Parts
    data: PhotoSource
    photos: PhotoSet
    scoring: ScoringSet
    sampler: DDIM
    judge: Judge
    metrics: Mapping[str, PortraitMetric]

    @classmethod
    def of(cls, config: DictConfig) -> Bench:
        """Build all that a configuration names; ValueError for what the user can mend."""
        device = device_of(config.trainer)
        parts = build_parts(config, device)
        metrics = {str(name): instantiate(metric) for name, metric in config.metrics.items()}
        sampler = instantiate(config.sampler)
        judge = instantiate(config.judge).to(device)
        data: PhotoSource = instantiate(config.data)
        photos = data.score_photos(parts.frozen)
        select = instantiate(config.select)
        scoring = data.scoring_set(photos, refs=config.refs, select=select)
        return cls(config, parts, data, photos, scoring, sampler, judge, metrics)

    def save(self, weights: Path) -> None:
        """Write what was trained, whole or not at all."""
        half = weights.with_name(f".{weights.name}")
        save_file(self.parts.model.trained_state_dict(), half)
        half.replace(weights)

    def load(self, weights: Path) -> None:
        """Load what a run trained; ValueError where it is of other components."""
        self.parts.model.load_trained_state_dict(load_file(weights))

    def score(self, run: Run) -> dict[str, Any]:
        """Draw, measure, and write the record and its picture."""
        model, device = self.parts.model.to(self.parts.device), self.parts.device
        size = self.config.scale.score_batch_size
        portraits = draw(model, self.sampler, self.scoring, size, device)
        figures = measure(portraits, self.photos, model, self.judge, self.metrics, device)
        folder = run.record_folder
        save(picture(portraits, self.photos, model), folder / "grid.png")
        choices = {str(name): choice for name, choice in self.config.choices.items()}
        record = {"key": run.key, "scoring": run.scoring, **choices}
        record |= {"refs": self.config.refs, "seed": self.config.seed}
        record |= {"steps": self.config.budget.steps, **figures}
        # Last, since a record says that all before it is done.
        write_json(folder / "metrics.json", record)
        return record


def show(run: Run, record: Mapping[str, Any]) -> None:
    """Print the small table and where the run lies."""
    record_table(record).show()
    print(f"run: {run.folder}")
    if run.record_folder != run.folder:
        print(f"record: {run.record_folder}")


def device_of(trainer: DictConfig) -> torch.device:
    """The device of this process; ValueError where a GPU is asked for and none is there."""
    if trainer.accelerator == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda", process_rank())
    if trainer.accelerator == "auto":
        return torch.device("cpu")
    raise ValueError(
        f"trainer.accelerator={trainer.accelerator}: torch sees no GPU on this machine; "
        "use trainer=cpu, or install the build of torch that fits the driver"
    )
