"""What a process that Hydra did not start says on the screen."""

from __future__ import annotations

import logging
import sys


def console_logging() -> None:
    """The program's messages on the screen, as conf/config.yaml has Hydra set them up.

    Without which hardware was found, and that training stopped where it should.
    """
    handler = logging.StreamHandler(sys.stdout)
    handler.setLevel(logging.INFO)
    logging.basicConfig(format="%(message)s", handlers=[handler], level=logging.WARNING)
    logging.getLogger("portraitlab").setLevel(logging.DEBUG)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(f"{name}.utilities.rank_zero").setLevel(logging.WARNING)
