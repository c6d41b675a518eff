"""Mirrors of a run's losses, figures and picture; the run's folder holds the originals."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from portraitlab.processes import process_rank

if TYPE_CHECKING:
    from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger

_log = logging.getLogger(__name__)


def wandb_logger(
    folder: Path,
    name: str,
    key: str,
    settings: Mapping[str, Any],
    project: str,
    group: str,
    tags: Sequence[str],
    offline: bool,
) -> WandbLogger | Literal[False]:
    """Weights & Biases: offline where asked to, without a key, and where it is not reached.

    False in processes other than the first: one run is one curve.

    folder: of the run; W&B's files stay in it, so that `wandb sync` finds all of them later.
    key: names the run for ever: a resumed training goes on in the same W&B run.
    settings: flat columns (fusion, cond, refs, seed) beside the whole configuration.
    """
    # Read when W&B stages tables and images, and by nothing else.
    os.environ["WANDB_DATA_DIR"] = os.environ["WANDB_CACHE_DIR"] = str(folder.absolute() / "wandb")
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    if process_rank() > 0:
        return False

    def start(mode: Literal["online", "offline"] | None) -> WandbLogger | Literal[False]:
        run = wandb.init(
            project=project,
            group=group,
            tags=list(tags),
            name=name,
            id=key,
            resume="allow",
            dir=folder,
            config=dict(settings),
            mode=mode,
            settings=wandb.Settings(init_timeout=30, silent=True, console="off"),
        )
        return WandbLogger(experiment=run)

    if offline:
        return start("offline")
    try:
        # With a key, the login asks W&B whether it is good, and fails where W&B is not reached.
        return start(None if wandb.login(prompt=False) else "offline")
    except wandb.errors.Error as error:
        _log.warning("W&B was not reached (%s); this run is logged offline", error)
        return start("offline")


def csv_logger(folder: Path, **_: Any) -> CSVLogger:
    """Losses as losses/metrics.csv in the run's folder."""
    from lightning.pytorch.loggers import CSVLogger

    return CSVLogger(folder, name="", version="losses")


def no_logger(**_: Any) -> Literal[False]:
    """No mirror: Lightning's word for it is False."""
    return False


def mirror(logger: Logger | bool, folder: Path, record: Mapping[str, Any]) -> None:
    """Send a finished record's figures, and its picture to W&B."""
    from lightning.pytorch.loggers import Logger, WandbLogger

    if not isinstance(logger, Logger):
        return
    metrics = {name: metric["value"] for name, metric in record["metrics"].items()}
    figures = {f"score/{name}": value for name, value in metrics.items() if value is not None}
    logger.log_metrics({**figures, "score/faceless": record["faceless"]})
    if isinstance(logger, WandbLogger):
        logger.log_image("grid", [str(folder / "grid.png")])
    logger.save()


def close(logger: Logger | bool) -> None:
    """End the W&B run: Lightning would hand it to the next job of a sweep."""
    from lightning.pytorch.loggers import WandbLogger

    if isinstance(logger, WandbLogger):
        logger.experiment.finish()


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
