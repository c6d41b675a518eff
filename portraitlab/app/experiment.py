"""Build all that training, scoring and sampling share, before any of them starts."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from portraitlab.data.augment import augmented_photos
from portraitlab.data.photo_set import PhotoSet
from portraitlab.data.source import PhotoSource
from portraitlab.data.testset import RealPhotos, ScoringSet
from portraitlab.method.customise.base import Customisation
from portraitlab.method.edit.base import Edit
from portraitlab.method.model import PortraitModel
from portraitlab.method.sampler.base import Sampler
from portraitlab.runs.key import PROTOCOL, plain
from portraitlab.runs.origin import origin
from portraitlab.runs.run import NoRun, Run
from portraitlab.scoring.draw import SHOWN, Portraits, backbone_alone, draw, show_samples
from portraitlab.scoring.drawing_cost import drawing_cost
from portraitlab.scoring.edit import edit_portraits
from portraitlab.scoring.judge import Judge
from portraitlab.scoring.measure import measure
from portraitlab.scoring.metrics.metric import PortraitMetric
from portraitlab.scoring.pictures import save, save_each, sheet
from portraitlab.support.hashes import file_digest
from portraitlab.support.precision import frozen_precision
from portraitlab.support.processes import local_rank
from portraitlab.support.table import Table
from portraitlab.support.tensor_files import write_tensors
from portraitlab.tables.composing import composed
from portraitlab.training.build import (
    Parts,
    build_beside,
    build_parts,
    check_published,
    wanted_fields,
    warn_of_miniature,
)


@dataclass(frozen=True)
class Bench:
    """The parts, the held-out photos, the judge and the metrics.

    real: photos that FID compares with; empty where nothing is measured. editor: the model of the
    edit, which is the drawing model or another run's (edit_by). judge: stays on the CPU
    until it is used, since training does not need it; None where nothing is measured.
    """

    config: DictConfig
    parts: Parts
    data: PhotoSource
    photos: PhotoSet
    scoring: ScoringSet
    real: RealPhotos
    sampler: Sampler
    customise: Customisation
    edit: Edit
    editor: PortraitModel
    judge: Judge | None
    metrics: Mapping[str, PortraitMetric]

    @classmethod
    def of(cls, config: DictConfig, judged: bool = True) -> Bench:
        """Build all components of a configuration.

        judged: False leaves out judge and metrics. Raises ValueError for errors that the user can
        fix.
        """
        device = device_of(config.trainer)
        sampler = instantiate(config.sampler)
        check_published(config, "sampler", *(["judge"] if judged else []))
        parts = build_parts(config, device)
        if local_rank() == 0:
            warn_of_miniature(config)
        chosen = config.metrics if judged else {}
        metrics = {str(name): instantiate(metric) for name, metric in chosen.items()}
        with sampler.ready(parts.frozen.backbone):  # fail before training, not after
            pass
        edit = build_beside(config.edit, config, parts.frozen.encoder)
        editor = parts.model if config.edit_by is None else editing_model(config, device)
        judge = build_beside(config.judge, config, parts.frozen.encoder) if judged else None
        customise: Customisation = instantiate(config.customise)
        data: PhotoSource = instantiate(config.data)
        beside = 0 if config.target_as_reference else 1
        data.check_refs(parts.frozen, config.refs, config.score_refs, beside)
        photos = _as_read(data.score_photos(parts.frozen), parts)
        photos = replace(photos, wants=photos.wants | editor.wants)
        if customise.changes:
            photos = replace(photos, reference_latents=True)
        select = instantiate(config.select)
        scoring = data.scoring_set(photos, refs=config.score_refs, select=select)
        real = data.real_photos(parts.frozen, scoring) if judged else RealPhotos(photos.store, ())
        return cls(
            *(config, parts, data, photos, scoring, real, sampler, customise, edit, editor),
            *(judge, metrics),
        )

    def train_photos(self) -> PhotoSet:
        """Return the training photos and their copies, with all that net and objective read."""
        frozen, copies = self.parts.frozen, self.config.augment
        photos = self.data.train_photos(frozen)
        if copies:
            cache = Path(self.config.cache)
            photos = augmented_photos(photos, copies, cache, frozen, self.data.digest())
        photos = _as_read(photos, self.parts)
        return replace(photos, wants=photos.wants | wanted_fields(self.config.objective))

    def save(self, run: Run, **facts: Any) -> None:
        """Write the trained weights, all or nothing, and facts about the training."""
        half = run.weights.with_name(f".{run.weights.name}")
        write_tensors(self.parts.model.trained_state_dict(), half)
        with half.open("rb") as file:
            os.fsync(file.fileno())
        run.note(sha256=file_digest(half), **facts)
        half.replace(run.weights)

    def load(self, run: Run) -> None:
        """Load a run's weights. Raises ValueError where they are damaged or of other components."""
        self.parts.model.load_trained_state_dict(run.read_weights())

    def edited(self, portraits: Portraits) -> Portraits:
        """Edit drawn portraits (edit=...)."""
        editor = self.editor.to(self.parts.device)
        return edit_portraits(self.edit, editor, self.parts.frozen.encoder, portraits)

    def score(self, run: Run) -> dict[str, Any]:
        """Draw and measure portraits; write the record and its pictures, and return the record."""
        begun = time.perf_counter()
        assert self.judge is not None, "built to draw only"
        model, device = self.parts.model.to(self.parts.device), self.parts.device
        size = self.config.scale.score_batch_size
        precision, cache = self.config.precision, Path(self.config.cache)

        def drawn(of: PortraitModel, scoring: ScoringSet, count: int | None = None) -> Portraits:
            return draw(
                of, self.sampler, scoring, size, device, count, precision=precision, cache=cache,
                customise=self.customise if of is model else None,
            )  # fmt: skip

        # Draw and measure.
        portraits = self.edited(drawn(model, self.scoring))
        count = max((metric.alone for metric in self.metrics.values()), default=0)
        alone = drawn(backbone_alone(model), self.scoring, count) if count else None
        timed = any(metric.timed for metric in self.metrics.values())
        cost = drawing_cost(model, self.sampler, self.scoring, device, precision) if timed else None
        figures = measure(
            portraits, self.photos, self.real, model, self.judge, self.metrics, size, device,
            alone, cost,
        )  # fmt: skip

        # Draw the grid in strangers' poses, also where people's own targets are scored.
        folder = run.record_folder
        posed = self.scoring.in_strangers_poses(SHOWN)
        shown = show_samples(self.edited(drawn(model, posed)), self.photos, model)
        save(sheet(shown), folder / "grid.png")
        save_each(shown, folder / "samples")

        return self.write_record(run, figures, begun)

    def write_record(self, run: Run, figures: Mapping[str, Any], begun: float) -> dict[str, Any]:
        """Write the record of a scoring with its figures, and return it.

        begun: time.perf_counter() at the start of the scoring.
        """
        config = self.config
        choices = {str(name): choice for name, choice in config.choices.items()}
        record = {"key": run.key, "scoring": run.scoring, **choices}
        record |= {"refs": config.refs, "score_refs": config.score_refs}
        record |= {"seed": config.seed}
        record |= {"precision": frozen_precision(config.precision, self.parts.device)}
        record |= {"protocol": PROTOCOL}
        record |= {"steps": config.budget.steps, **figures}
        record |= {"scoring_seconds": round(time.perf_counter() - begun, 1), "origin": origin()}
        run.describe_scoring(plain(config))
        # The record comes last, since it marks the scoring as complete.
        run.write_record(record)
        return record


def editing_model(config: DictConfig, device: torch.device) -> PortraitModel:
    """Build the trained model of the run that edit_by describes, of this scale and seed.

    Raises NoRun (a ValueError) where it is not trained.
    """
    shared = {"scale": config.choices.scale, "seed": config.seed}
    shared |= {"runs": config.runs, "cache": config.cache}
    own = str(config.edit_by).split()
    settings = composed([*own, *(f"{name}={value}" for name, value in shared.items())])
    run = Run.of(settings)
    if not run.weights.is_file():
        raise NoRun(
            "the run of edit_by is not trained; train it first with python run.py "
            f"{config.edit_by} scale={config.choices.scale} seed={config.seed}"
        )
    model = build_parts(OmegaConf.create(settings), device).model.eval()
    model.load_trained_state_dict(run.read_weights())
    return model


def _as_read(photos: PhotoSet, parts: Parts) -> PhotoSet:
    model = parts.model
    return replace(photos, reference_latents=model.net.latents, wants=model.wants)


def show(run: Run, table: Table) -> None:
    """Print a record's table and the folders of run and record."""
    table.show()
    print(f"run: {run.folder}")
    if run.record_folder != run.folder:
        print(f"record: {run.record_folder}")


def device_of(trainer: DictConfig) -> torch.device:
    """Return this process's device. Raises ValueError where a GPU is required but not found."""
    if trainer.accelerator == "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda", local_rank())
    if trainer.accelerator == "auto":
        return torch.device("cpu")
    raise ValueError(
        f"trainer.accelerator={trainer.accelerator}: torch sees no GPU on this machine; "
        "use trainer=cpu, or install the build of torch that fits the driver"
    )
