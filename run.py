"""Run one task, or a sweep of them with -m: `python run.py [group=choice ...] [name=value ...]`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException, InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from portraitlab.sweeps import Failure, refuse_many_devices


class UserError(CompactHydraException):
    """What the user can mend: Hydra prints its message alone and exits with code 1."""


def message(error: BaseException) -> str:
    """The message of a ValueError, also where it was raised inside `instantiate`."""
    cause = error.__cause__
    inside = isinstance(error, InstantiationException) and isinstance(cause, ValueError)
    return str(cause if inside else error)


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> dict[str, Any] | Failure:
    """The task's result, or in a sweep why there is none: its other jobs go on."""
    settings = HydraConfig.get()
    sweep = settings.mode is RunMode.MULTIRUN
    try:
        if sweep:
            refuse_many_devices(config.trainer.devices, settings.launcher._target_)
            config.group = Path(settings.sweep.dir).name
        result: dict[str, Any] = instantiate(config.task)(config)
        return result
    except (ValueError, InstantiationException, OmegaConfBaseException) as error:
        if sweep:
            return Failure(message(error))
        raise UserError(message(error)) from error


if __name__ == "__main__":
    main()
