"""Check a folder of photos, and prepare it for training at scale."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Two commands of its own."""
    commands = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    check = commands.add_parser(
        "validate",
        help="read every photo and list what is wrong with it",
        description="Reads every photo of ROOT/<identity>/ to the last byte, without any model. "
        "Ends with exit code 1 where there are problems.",
    )
    check.add_argument("root", type=Path, metavar="ROOT", help="folder of identity folders")
    check.add_argument(
        "--format", choices=("text", "json"), default="text", help="how (default: text)"
    )
    _workers(check)


def run(given: argparse.Namespace) -> int:
    """Exit code of the command. Raises ValueError for what the user can mend."""
    return _validate(given)


def _workers(parser: argparse.ArgumentParser) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser.add_argument(
        "--workers", type=int, default=cores, help="processes that read photos (default: cores)"
    )


def _validate(given: argparse.Namespace) -> int:
    from portraitlab.data.validate import validate

    report = validate(given.root, _whole("--workers", given.workers, 0))
    if given.format == "json":
        print(json.dumps(report.content(), indent=1))
    else:
        for line in report.lines():
            print(line)
    return 1 if report.problems else 0


def _whole(name: str, value: int, least: int) -> int:
    if value < least:
        raise ValueError(f"{name}={value} must be at least {least}.")
    return value
