"""Mirrors of a run's losses, figures and pictures; the run's folder holds the originals."""

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

from portraitlab.runs.run import Run
from portraitlab.runs.status import Preempted
from portraitlab.support.files import read_json, write_json

if TYPE_CHECKING:
    import wandb

_log = logging.getLogger(__name__)

STEP = "train/step"  # what the curves are drawn over
ROW = ("fusion", "cond", "net", "refs")  # what the label `row` is made of
_NUMBERS = ("refs", "score_refs", "seed", "batch_size", "prompt_dropout")
_SHOWN = ("control-image", "generated", "target")


class WandbMirror:
    """A run of Weights & Biases that repeats what lies in a run's folder.

    It is told each logged step once, however often a training is taken up: wandb/told.json in the
    folder holds the last step that each of W&B's runs was told. W&B takes steps in growing order
    only, also where the offline files of several processes end up in one run, so the steps are
    the training's; a record takes the next one.
    """

    def __init__(self, run: wandb.Run, folder: Path) -> None:
        self.run = run
        self.folder = folder
        self._path = folder / "wandb" / "told.json"
        self._told: dict[str, int] = read_json(self._path) or {}
        # Past what W&B has of this run and the folder does not know: an earlier one, made afresh.
        self._offset = max(0, run.starting_step - self._step - 1)
        run.define_metric(STEP, hidden=True)
        run.define_metric("train/*", step_metric=STEP)

    @property
    def _step(self) -> int:
        return self._told.get(self.run.id, 0)

    def _log(self, step: int, content: dict[str, Any]) -> None:
        self.run.log(content, step=self._offset + step)
        self._told[self.run.id] = step
        write_json(self._path, self._told)

    def line(self, line: Mapping[str, Any]) -> None:
        """Repeat a line of metrics.jsonl, unless its step was repeated before."""
        if line["step"] > self._step:
            named = {f"train/{name.removeprefix('train/')}": line[name] for name in line}
            self._log(line["step"], named)

    def record(self, record: Mapping[str, Any], folder: Path) -> None:
        """Repeat a finished record: each figure and its standard error, and the pictures beside it.

        folder: of the record. The run's first record has plain keys (score/sim_f); a later one of
        other settings has its own (score/<hash>/sim_f), so that neither replaces the other. A job
        of a W&B sweep has a W&B run to itself, and plain keys.
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
        """End W&B's run; with an error as failed, or as preempted where a signal stopped it.

        Without, W&B would hand a live run to whatever this process starts next.
        """
        if error is None:
            self.run.finish()
        elif isinstance(error, Preempted):
            self.run.mark_preempting()
            self.run.finish(exit_code=128 + error.signum)
        else:
            self.run.finish(exit_code=1)

    def _stage(self, table: wandb.Table, name: str) -> None:
        """Note a table's files under paths that hold wherever the run's folder is moved.

        `wandb sync` takes them as seen from where it is called, so from the run's folder.
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
    """Weights & Biases: offline where asked to, without a key, and where it is not reached.

    None in processes other than the first (one run is one curve), and where nothing is to be done.

    folder: of the run; W&B's files stay in it, so that `wandb sync` finds all of them later.
    key: names the run for ever: a resumed training goes on in the same W&B run. A job of a W&B
    sweep has the name that its agent gives it.
    settings: flat columns (fusion, cond, refs, seed) beside the whole configuration.
    scoring: hash of a scoring after the first, whose settings then stand below score/<hash>, since
    the flat ones are the first's; else None.
    done: whether the run's record is there, and W&B knows it but for a sweep that asks for it.
    """
    from portraitlab.support.processes import process_rank

    if process_rank() > 0:
        return None
    # How an agent tells its jobs so; W&B's own settings would start its service for a done run too.
    agents = "WANDB_SWEEP_ID" in os.environ
    if done and not agents:
        return None
    # W&B stages the files of tables there and takes no argument for it.
    os.environ["WANDB_DATA_DIR"] = os.environ["WANDB_CACHE_DIR"] = str(folder.absolute() / "wandb")
    import wandb

    # An agent of a W&B sweep says itself which run this process is, and waits for it.
    own: dict[str, Any] = {} if agents else {"project": project, "id": key}
    further = scoring is not None and not agents

    def start(mode: Literal["online", "offline"] | None) -> WandbMirror:
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
        return WandbMirror(run, folder)

    if offline:
        return start("offline")
    try:
        # With a key, the login asks W&B whether it is good, and fails where W&B is not reached.
        return start(None if wandb.login(prompt=False) else "offline")
    except wandb.errors.Error as error:
        _log.warning("W&B was not reached (%s); this run is logged offline", error)
        return start("offline")


def no_logger(**_: Any) -> None:
    """No mirror."""


@contextmanager
def opened(
    config: DictConfig, settings: Mapping[str, Any], run: Run, done: bool = False
) -> Iterator[WandbMirror | None]:
    """The mirror that a configuration names, None for none; closed at the end, whatever happened.

    settings: the configuration as plain containers. done: whether the run's record is there.
    """
    choices = settings["choices"]
    numbers = {name: settings[name] for name in _NUMBERS}
    flat = {**choices, **numbers, "steps": settings["budget"]["steps"]}
    flat["row"] = "-".join(str(flat[name]) for name in ROW)
    flat |= {"key": run.key, "config": dict(settings)}
    further = run.weights.is_file() and run.record_folder != run.folder
    # Partial, or Hydra would instantiate what the settings describe as well.
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
    """The pictures that lie in a record's samples/, a row a person, alike in every run."""
    import wandb

    table = wandb.Table(["identity", "references", *(name.replace("-", " ") for name in _SHOWN)])
    for person in sorted(path.parent for path in folder.glob("*/generated.png")):
        references = sorted(person.glob("reference-*.png"), key=lambda path: (len(path.name), path))
        shown = [person / f"{name}.png" for name in _SHOWN]
        images = [wandb.Image(str(path)) if path.is_file() else None for path in shown]
        table.add_data(person.name, wandb.Image(_strip(references)), *images)
    return table


def _strip(paths: Sequence[Path]) -> Image.Image:
    """Pictures of one size side by side."""
    images = [Image.open(path) for path in paths]
    width, height = images[0].size
    strip = Image.new("RGB", (width * len(images), height))
    for place, image in enumerate(images):
        strip.paste(image, (place * width, 0))
    return strip


@contextmanager
def written_log(path: Path) -> Iterator[None]:
    """Write what the program and Lightning say to a file as well, loss lines included."""
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
