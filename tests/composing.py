"""Configurations composed as run.py composes them."""

from __future__ import annotations

import copy
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict
from placed import ROOT
from warm import warm

from portraitlab.tables.composing import composed


@cache
def _composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("config", list(overrides), return_hydra_config=True)


@cache
def _settings(*overrides: str) -> dict[str, Any]:
    return composed(overrides)


def settings_of(*overrides: str) -> dict[str, Any]:
    """Compose and resolve the settings of a command line, once in a process."""
    return copy.deepcopy(_settings(*overrides))


def compose_config(*overrides: str) -> DictConfig:
    """Compose a configuration, once in a process."""
    config = copy.deepcopy(_composed(*overrides))
    HydraConfig.instance().set_config(config)
    with open_dict(config):
        del config["hydra"]
    return config


def run_py(*arguments: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `python run.py ...` as a user who has no W&B key and no home to find one in.

    variables: more of the environment.
    """
    environment = {**without_wandb(), "HOME": str(home), "NETRC": str(home / "netrc"), **variables}
    return warm().run(list(arguments), environment, timeout=600)


def without_wandb() -> dict[str, str]:
    """Return the environment without the variables of W&B."""
    return {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
