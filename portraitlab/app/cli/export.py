"""Write a trained run in diffusers' format, with a pipeline and a model card."""

from __future__ import annotations

import argparse
from pathlib import Path

from portraitlab.support.printing import shell_word


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the run, the output, its precision and the data's licence."""
    parser.add_argument("run", metavar="RUN", help="run folder, or the end of a run's name")
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write, empty or new")
    parser.add_argument(
        "--dtype",
        choices=("float32", "float16", "bfloat16"),
        default="float32",
        help="precision of the written weights (default: float32)",
    )
    parser.add_argument(
        "--data-licence", metavar="TEXT", help="permitted use of the training photos, for the card"
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), help="folder of all runs (default: runs)"
    )


def run(given: argparse.Namespace) -> None:
    """Write the folder. Raises ValueError where the run is unfinished or OUT is not empty."""
    from portraitlab.deploy.export.run import export_run
    from portraitlab.runs.survey import find_run

    folder = Path(given.run) if Path(given.run).is_dir() else find_run(given.run, given.runs)
    export_run(folder, given.out, given.dtype, given.data_licence)
    print(f"exported: {given.out}")
    command = f"portraitlab generate {shell_word(given.out)} --refs PHOTO ... --target PHOTO"
    print(f"draw with it: {command}")
