"""Write a sweep's W&B workspace, and apply it where there is a login."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The sweep's folder, and where in W&B its runs are."""
    parser.add_argument("sweep", type=Path, help="a sweep's folder, below runs/sweeps")
    parser.add_argument("--entity", help="W&B's user or team; the login's own without")
    parser.add_argument("--project", default="portraitlab", help="as logger.project of the runs")


def run(given: argparse.Namespace) -> None:
    """Raises ValueError where the folder holds no sweep, or W&B does not take the workspace."""
    from portraitlab.tables.dashboard.apply import write_dashboard
    from portraitlab.tables.dashboard.sweep import sweep_comparison

    compared = sweep_comparison(given.sweep)
    path, address = write_dashboard(compared, given.sweep, given.entity, given.project)
    if address is None:
        print(
            f"dashboard: {path}, not applied: W&B has no login here; run `wandb login`, then the "
            "same command again"
        )
    else:
        print(f"dashboard: {address}")
