"""Write a sweep's W&B workspace, and apply it if there is a login."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sweep's folder, and W&B's entity and project of its runs."""
    parser.add_argument("sweep", type=Path, help="folder of a sweep, below runs/sweeps")
    parser.add_argument("--entity", help="W&B's user or team (default: the login's)")
    parser.add_argument(
        "--project",
        default="portraitlab",
        help="W&B's project, the runs' logger.project (default: portraitlab)",
    )


def run(given: argparse.Namespace) -> None:
    """Write and apply the workspace.

    Raises ValueError where the folder has no sweep, or W&B does not accept the workspace.
    """
    from portraitlab.tables.dashboard.apply import write_dashboard
    from portraitlab.tables.dashboard.sweep import sweep_comparison

    compared = sweep_comparison(given.sweep)
    path, address = write_dashboard(compared, given.sweep, given.entity, given.project)
    if address is None:
        print(
            f"dashboard: {path}, not applied: there is no login to W&B; run `wandb login`, then "
            "the same command again"
        )
    else:
        print(f"dashboard: {address}")
