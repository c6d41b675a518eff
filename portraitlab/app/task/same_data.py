"""Check that a run still sees the photos it started with, since its key only has their path."""

from __future__ import annotations

import logging

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig

from portraitlab.data.source import PhotoSource
from portraitlab.runs.run import Run
from portraitlab.support.errors import message

_LOG = logging.getLogger(__name__)


def check_same_data(run: Run, data: PhotoSource) -> None:
    """Store the photos' digest before a training; later check that it is unchanged.

    Raises ValueError if the photos have changed since the training started.
    """
    digest = data.digest()
    if digest is None:
        return
    if not run.begun:
        run.note_data(digest)
    elif run.data_digest() not in (None, digest):
        raise ValueError(
            f"the photos have changed since {run.folder} was started, so resuming would use other "
            "samples and may hold out other people. Restore the photos, train again with "
            "task=train fresh=true, or train in another runs=FOLDER."
        )


def warn_of_other_data(run: Run, config: DictConfig) -> None:
    """Log a warning if the photos have changed since a finished run was trained on them."""
    noted = run.data_digest()
    if noted is None:
        return
    try:
        data: PhotoSource = instantiate(config.data)
        changed = data.digest() != noted
        why = ""
    except (ValueError, OSError, InstantiationException) as error:
        changed, why = True, f" ({message(error)})"
    if changed:
        _LOG.warning(
            "the photos have changed since %s was trained on them%s: these are its old figures; "
            "task=train fresh=true makes new ones",
            run.folder, why,
        )  # fmt: skip
