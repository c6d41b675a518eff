"""Whether a run goes on with the photos that it began on: its name says only where they lie."""

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
    """Note what a training begins on, or see that it goes on, or is scored, with the same.

    Raises ValueError where the photos were changed since.
    """
    digest = data.digest()
    if digest is None:
        return
    if not run.begun:
        run.note_data(digest)
    elif run.data_digest() not in (None, digest):
        raise ValueError(
            f"the photos were changed since {run.folder} was begun: it would go on with other "
            "samples, and other people may be held out. Bring back what it was begun on, train "
            "anew with task=train fresh=true, or beside it with another runs=FOLDER."
        )


def warn_of_other_data(run: Run, config: DictConfig) -> None:
    """Say in one line where the figures of a run that is done are not of the photos of today."""
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
            "the photos were changed since %s was trained on them%s: these are its old figures, "
            "and task=train fresh=true makes new ones",
            run.folder, why,
        )  # fmt: skip
