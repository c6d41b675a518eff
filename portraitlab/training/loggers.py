"""Mirrors of a run's losses, figures and pictures, whose originals are in the run's folder."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hydra.utils import instantiate
from omegaconf import DictConfig
from PIL import Image
from pydantic import ValidationError

from portraitlab.runs.run import Run
from portraitlab.runs.status import Preempted
from portraitlab.support.files import read_json, write_json
from portraitlab.support.groups import NAMING

if TYPE_CHECKING:
    import wandb

_log = logging.getLogger(__name__)

STEP = "train/step"  # x axis of the curves
ROW = (*NAMING, "refs")  # settings that the label `row` joins
_NUMBERS = ("refs", "score_refs", "seed", "batch_size", "prompt_dropout")
_SHOWN = ("control-image", "generated", "target")


class WandbMirror:
    """A run of Weights & Biases that repeats the contents of a run's folder.

    Each logged step is sent once, however often a training is resumed: wandb/sent.json in the
    folder stores the last step sent to each W&B run. W&B accepts increasing steps only, also where
    the offline files of several processes are merged into one run. Hence the steps are the
    training's, and a record takes the next one.
    """

    def __init__(self, run: wandb.Run, folder: Path) -> None:
        self.run = run
        self.folder = folder
        self._path = folder / "wandb" / "sent.json"
        self._sent: dict[str, int] = read_json(self._path) or {}  # last step by W&B's run id
        # Where a run was repeated with fresh=true, W&B still has the steps of the earlier one.
        self._offset = max(0, run.starting_step - self._step - 1)
        run.define_metric(STEP, hidden=True)
        run.define_metric("train/*", step_metric=STEP)

    @property
    def _step(self) -> int:
        return self._sent.get(self.run.id, 0)

    def _log(self, step: int, content: dict[str, Any]) -> None:
        self.run.log(content, step=self._offset + step)
        self._sent[self.run.id] = step
        write_json(self._path, self._sent)

    def line(self, line: Mapping[str, Any]) -> None:
        """Repeat a line of metrics.jsonl, unless its step was repeated before."""
        if line["step"] > self._step:
            named = {f"train/{name.removeprefix('train/')}": line[name] for name in line}
            self._log(line["step"], named)

    def record(self, record: Mapping[str, Any], folder: Path) -> None:
        """Log a finished record: each figure with its standard error, and its pictures.

        The run's first record has plain keys (score/sim_f). A later one with other settings has
        keys of its own (score/<hash>/sim_f), so that neither replaces the other. A job of a W&B
        sweep has a W&B run of its own, and plain keys.

        folder: the record's folder.
        """
        import wandb

        plain = folder == self.folder or self.run.sweep_id is not None
        own = "" if plain else f"/{record['scoring']}"
        figures = {"faceless": record["faceless"]}
        for name, metric in record["metrics"].items():
            figures |= {name: metric["value"], f"{name}_error": metric["error"]}
        logged = {f"score{own}/{name}": v for name, v in figures.items() if v is not None}
        table = _portraits(folder / "samples")
        if self.run.offline:
            self._stage(table, f"portraits{own.replace('/', '-')}")
        pictures = {f"grid{own}": wandb.Image(str(folder / "grid.png")), f"portraits{own}": table}
        self._log(self._step + 1, {**logged, **pictures})

    def close(self, error: BaseException | None = None) -> None:
        """End W&B's run, with an error as failed, or as preempted where a signal stopped it.

        Otherwise W&B would reuse the live run for the next job of this process.
        """
        if error is None:
            self.run.finish()
        elif isinstance(error, Preempted):
            self.run.mark_preempting()
            self.run.finish(exit_code=128 + error.signum)
        else:
            self.run.finish(exit_code=1)

    def _stage(self, table: wandb.Table, name: str) -> None:
        """Store a table's files under relative paths, so that the run's folder can be moved.

        `wandb sync` resolves them against the working directory: call it in the run's folder.
        """
        import wandb

        artifact = wandb.Artifact(f"{name}-{self.run.id}", type="portraits")
        artifact.add(table, name)
        for entry in artifact.manifest.entries.values():
            if entry.local_path is not None:
                entry.local_path = os.path.relpath(entry.local_path, self.folder.absolute())
        self.run.log_artifact(artifact)


def wandb_logger(
    folder: Path,
    name: str,
    key: str,
    task: str,
    settings: Mapping[str, Any],
    scoring: str | None,
    done: bool,
    project: str,
    group: str,
    tags: Sequence[str],
    notes: str | None,
    offline: bool,
) -> WandbMirror | None:
    """Open a run of Weights & Biases.

    It is offline with offline=True, without a key, and where W&B is not reachable. Returns None in
    all processes but the first (one run is one curve), and where nothing is left to do.

    folder: the run's folder; W&B's files stay in it, so that `wandb sync` finds them later.
    key: W&B's id of the run, so that a resumed training continues the same W&B run. A job of a W&B
    sweep has the id that its agent chose.
    settings: flat columns (fusion, cond, refs, seed) beside the whole configuration.
    scoring: hash of a scoring after the first, else None. Its settings are logged below
    score/<hash>, since the flat ones are the first's.
    done: True if the run's record exists. W&B then has it already, except in a W&B sweep.

    Raises ValueError for a project, group, tags or notes that W&B does not take.
    """
    from portraitlab.support.processes import process_rank

    # Skip further processes and finished runs.
    if process_rank() > 0:
        return None
    # Set by W&B's agents; reading W&B's own settings would start its service for a done run too.
    agents = "WANDB_SWEEP_ID" in os.environ
    if done and not agents:
        return None

    # Keep W&B's staged files in the run's folder; there is no argument for it.
    os.environ["WANDB_DATA_DIR"] = os.environ["WANDB_CACHE_DIR"] = str(folder.absolute() / "wandb")
    import wandb

    # An agent of a W&B sweep chooses the W&B run of this process, and waits for it.
    own: dict[str, Any] = {} if agents else {"project": project, "id": key}
    further = scoring is not None and not agents

    def start(mode: Literal["online", "offline"] | None) -> WandbMirror:
        try:
            run = wandb.init(
                **own,
                group=group,
                job_type=task,
                tags=list(tags),
                name=name,
                notes=notes,
                resume="allow",
                dir=folder,
                config={f"score/{scoring}": settings["config"]} if further else dict(settings),
                mode=mode,
                reinit="create_new",
                settings=wandb.Settings(init_timeout=30, silent=True, console="off"),
            )
        except (wandb.errors.UsageError, ValidationError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
            raise ValueError(
                "W&B refuses this run's settings; change logger.project, logger.tags, "
                f"logger.notes or group: {reason}"
            ) from error
        return WandbMirror(run, folder)

    if offline:
        return start("offline")
    try:
        # With a key, the login checks it at W&B, and fails where W&B is not reachable.
        return start(None if wandb.login(prompt=False) else "offline")
    except wandb.errors.Error as error:
        _log.warning("W&B was not reached (%s); this run is logged offline", error)
        return start("offline")


def no_logger(**_: Any) -> None:
    """Open no mirror."""


@contextmanager
def opened(
    config: DictConfig, settings: Mapping[str, Any], run: Run, done: bool = False
) -> Iterator[WandbMirror | None]:
    """Open the mirror that a configuration names, None for logger=none, and close it at the end.

    settings: the configuration as plain containers. done: True if the run's record exists.
    """
    # Flatten the settings that become columns.
    choices = settings["choices"]
    numbers = {name: settings[name] for name in _NUMBERS}
    flat = {**choices, **numbers, "steps": settings["budget"]["steps"]}
    flat["row"] = "-".join(str(flat[name]) for name in ROW)
    flat |= {"key": run.key, "config": dict(settings)}
    further = run.weights.is_file() and run.record_folder != run.folder

    # Partial, or Hydra would instantiate the components in the settings as well.
    mirror: WandbMirror | None = instantiate(config.logger, _partial_=True)(
        folder=run.folder,
        name=run.folder.name,
        key=run.key,
        task=choices["task"],
        settings=flat,
        scoring=run.scoring if further else None,
        done=done,
    )
    try:
        yield mirror
    except BaseException as error:
        if mirror is not None:
            mirror.close(error)
        raise
    if mirror is not None:
        mirror.close()


def _portraits(folder: Path) -> wandb.Table:
    """Read the pictures in a record's samples/ into a table, one row a person."""
    import wandb

    table = wandb.Table(["identity", "references", *(name.replace("-", " ") for name in _SHOWN)])
    for person in sorted(path.parent for path in folder.glob("*/generated.png")):
        references = sorted(person.glob("reference-*.png"), key=lambda path: (len(path.name), path))
        shown = [person / f"{name}.png" for name in _SHOWN]
        images = [wandb.Image(str(path)) if path.is_file() else None for path in shown]
        table.add_data(person.name, wandb.Image(_strip(references)), *images)
    return table


def _strip(paths: Sequence[Path]) -> Image.Image:
    """Join pictures of one size side by side."""
    images = [Image.open(path) for path in paths]
    width, height = images[0].size
    strip = Image.new("RGB", (width * len(images), height))
    for place, image in enumerate(images):
        strip.paste(image, (place * width, 0))
    return strip


@contextmanager
def written_log(path: Path) -> Iterator[None]:
    """Write the messages of the program and of Lightning to a file as well, losses included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    loggers = [logging.getLogger(name) for name in ("portraitlab", "lightning.pytorch")]
    for each in loggers:
        each.addHandler(handler)
    try:
        yield
    finally:
        for each in loggers:
            each.removeHandler(handler)
        handler.close()
