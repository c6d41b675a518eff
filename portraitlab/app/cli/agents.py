"""Write a sweep for W&B's agents, which then choose the jobs instead of run.py -m."""

from __future__ import annotations

import argparse
from pathlib import Path

from portraitlab.support.printing import shell_word


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the overrides, W&B's method and project, and the file."""
    parser.add_argument(
        "overrides", nargs="+", metavar="NAME=CHOICE,...", help="overrides, as for run.py -m"
    )
    parser.add_argument(
        "--method", default="grid", help="W&B's search: grid, random or bayes (default: grid)"
    )
    parser.add_argument(
        "--project", default="portraitlab", help="W&B's project (default: portraitlab)"
    )
    parser.add_argument(
        "--file", type=Path, default=Path("sweep.yaml"), help="output (default: sweep.yaml)"
    )


def run(given: argparse.Namespace) -> None:
    """Write the YAML. Raises ValueError for overrides that an agent cannot pass on."""
    from omegaconf import OmegaConf

    from portraitlab.support.files import write_text
    from portraitlab.tables.dashboard.agents import agents_sweep

    sweep = agents_sweep(given.overrides, given.method, given.project)
    write_text(given.file, OmegaConf.to_yaml(OmegaConf.create(sweep)))
    print(f"sweep: {given.file}; after `wandb login`, beside run.py:")
    print(f"    wandb sweep {shell_word(given.file)}")
    print("    wandb agent SWEEP   # printed by the first command; start as many as you like")
