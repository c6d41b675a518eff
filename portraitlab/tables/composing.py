"""Compose the configuration that a row of a paper's table declares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from portraitlab.runs.key import plain
from portraitlab.runs.run import Run
from portraitlab.support.paths import CONF
from portraitlab.tables.paper_table import PaperRow, PaperTable


def declared_run(table: PaperTable, row: PaperRow, seed: int) -> Run:
    """Return the run, with its scoring, that a row and seed declare."""
    return Run.of(composed(declared_arguments(table, row, seed)))


def declared_arguments(table: PaperTable, row: PaperRow, seed: int) -> list[str]:
    """List the settings of a row and seed, as on run.py's command line."""
    own = [f"{name}={value}" for name, value in table.overrides.items()]
    return [*own, *row.arguments, f"seed={seed}"]


def composed(overrides: Sequence[str]) -> dict[str, Any]:
    """Resolve the settings of a command line, also inside Hydra's own program."""
    with _hydra():
        config = compose("config", list(overrides), return_hydra_config=True)
        before = HydraConfig.instance().cfg
        HydraConfig.instance().set_config(config)  # for the names of the choices
        try:
            with open_dict(config):
                del config["hydra"]
            return plain(config)
        finally:
            HydraConfig.instance().cfg = before


@contextmanager
def _hydra() -> Iterator[None]:
    if GlobalHydra.instance().is_initialized():
        yield
    else:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            yield
