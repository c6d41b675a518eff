"""Run one task, or a sweep of them with -m: `python run.py [group=choice ...] [name=value ...]`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from portraitlab.help import help_text
from portraitlab.runs.sweep import sweep_name

OmegaConf.register_new_resolver("sweep_name", sweep_name)
OmegaConf.register_new_resolver("help_text", help_text)


class UserError(CompactHydraException):
    """What the user can mend: Hydra prints its message alone and exits with code 1."""


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> dict[str, Any]:
    """The task's result. A sweep's launcher calls this in jobs that a scheduler starts."""
    from portraitlab.launching.messages import message
    from portraitlab.launching.perform import perform

    settings = HydraConfig.get()
    try:
        if settings.mode is RunMode.MULTIRUN:
            from portraitlab.launching.sweeping import refuse_replays

            refuse_replays(config.trainer, settings.launcher._target_)
            config.group = Path(settings.sweep.dir).name
        return perform(config)
    except Exception as error:
        said = message(error)
        if said is None:
            raise
        raise UserError(said) from error


if __name__ == "__main__":
    main()
