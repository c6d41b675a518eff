"""Write a sweep for W&B's agents, which choose the jobs in place of run.py -m."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The overrides, how W&B chooses among them, and where the YAML goes."""
    parser.add_argument("overrides", nargs="+", metavar="NAME=CHOICE,...", help="as run.py -m's")
    parser.add_argument("--method", default="grid", help="grid, random or bayes")
    parser.add_argument("--project", default="portraitlab", help="W&B's project")
    parser.add_argument("--file", type=Path, default=Path("sweep.yaml"), help="where it is written")


def run(given: argparse.Namespace) -> None:
    """Raises ValueError for overrides that an agent cannot hand on."""
    from omegaconf import OmegaConf

    from portraitlab.support.files import write_text
    from portraitlab.tables.dashboard.agents import agents_sweep

    sweep = agents_sweep(given.overrides, given.method, given.project)
    write_text(given.file, OmegaConf.to_yaml(OmegaConf.create(sweep)))
    print(f"sweep: {given.file}; after `wandb login`, beside run.py:")
    print(f"    wandb sweep {given.file}")
    print("    wandb agent SWEEP   # as the first command says; as many agents as you like")
