"""Run one task, or a sweep with -m, from the command line."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from portraitlab.app.overrides import check_overrides, explained
from portraitlab.runs.sweep import sweep_group
from portraitlab.support.paths import CONF
from portraitlab.support.printing import printable, replace_unencodable


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def main(config: DictConfig) -> dict[str, Any]:
    """Run the task and return its result; in jobs of a scheduler, the launcher calls this."""
    from portraitlab.launching.perform import perform
    from portraitlab.runs.status import Preempted
    from portraitlab.support.errors import UserError, message

    settings = HydraConfig.get()
    try:
        if settings.mode is RunMode.MULTIRUN:
            from portraitlab.launching.sweeping import refuse_replays

            refuse_replays(config.trainer, settings.launcher._target_)
            own = sweep_group(settings.overrides.task, Path(settings.sweep.dir))
            config.group = own or config.group
        return perform(config)
    except Preempted as stop:
        print(f"stopped by {stop.name}; the same command resumes it", file=sys.stderr)
        raise
    except KeyboardInterrupt:
        print("stopped by Ctrl-C; the same command resumes it", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        text = message(error)
        if text is None:
            raise
        raise UserError(text) from error


def run() -> None:
    """Run the command line: an error of the user ends it with one message and exit code 1.

    HYDRA_FULL_ERROR=1 in the environment shows its traceback.
    """
    replace_unencodable()
    given, whole = get_args_parser().parse_args(), "HYDRA_FULL_ERROR" in os.environ
    # Have Hydra raise errors, instead of printing them with a line about this variable.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        if not given.shell_completion:
            check_overrides(given.overrides)
        main()
    except (HydraException, OmegaConfBaseException) as error:
        if whole:
            raise
        sys.exit(printable(explained(error, given.overrides)))
    finally:
        if not whole:
            del os.environ["HYDRA_FULL_ERROR"]
