"""Set up messages on the screen in processes that Hydra did not start."""

from __future__ import annotations

import logging
import sys


def console_logging() -> None:
    """Print the program's messages, with the levels that conf/config.yaml sets for Hydra.

    Lightning's messages about the hardware and the end of training are left out.
    """
    handler = logging.StreamHandler(sys.stdout)
    handler.setLevel(logging.INFO)
    logging.basicConfig(format="%(message)s", handlers=[handler], level=logging.WARNING)
    logging.getLogger("portraitlab").setLevel(logging.DEBUG)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(f"{name}.utilities.rank_zero").setLevel(logging.WARNING)
