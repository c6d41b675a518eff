"""Delete checkpoints of trained runs, and half-written files, after a question."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from portraitlab.runs.survey import FoundRun, look, run_folders
from portraitlab.support.files import below
from portraitlab.support.lock import is_locked, locked
from portraitlab.support.printing import printable
from portraitlab.support.table import Table

# Names of files that a killed process left half-written: by write_text, checkpoints, the weights.
_HALF = re.compile(r"\..+\.\d+|\.half|\.model\.safetensors")
# States of runs on which no process works, unless the run is locked.
_IDLE = ("queued", "done", "failed", "preempted", "lost")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the folder and --yes."""
    parser.add_argument(
        "folder", type=Path, nargs="?", default=Path("runs"), help="folder of runs (default: runs)"
    )
    parser.add_argument("--yes", action="store_true", help="delete without a question")


def run(given: argparse.Namespace) -> None:
    """List the files that can be deleted, confirm, and delete them.

    Raises ValueError where there is no folder.
    """
    # Find the files.
    found = [each for folder in run_folders(given.folder) if (each := look(folder)).state in _IDLE]
    listed = {each: files for each in found if (files := unneeded(each))}
    listed = {each: files for each, files in listed.items() if not is_locked(each.folder)}
    if not listed:
        print(f"nothing to free in {given.folder}")
        return

    # Show them and confirm.
    rows = [
        [each.folder.name, each.state, str(len(files)), _amount(files)]
        for each, files in listed.items()
    ]
    Table(["run", "state", "files", "size"], rows).show()
    for file in (file for files in listed.values() for file in files):
        print(printable(file))
    everything = [file for files in listed.values() for file in files]
    if not (given.yes or _confirm(f"free {len(everything)} files, {_amount(everything)}? [y/N] ")):
        print("nothing was freed")
        return

    # Delete them.
    freed = [_free(each.folder, files) for each, files in listed.items()]
    print(
        f"freed {sum(count for count, _ in freed)} files, {_size(sum(size for _, size in freed))}"
    )


def unneeded(found: FoundRun) -> list[Path]:
    """List the files that a run without a process no longer needs.

    These are half-written files and, where the run has its weights, its checkpoints, from which
    every other run resumes; never weights, records, losses or messages, nor what a symbolic link
    leads to.
    """
    folder = found.folder
    trained = (folder / "model.safetensors").is_file()
    hidden = [
        path
        for pattern in (".*", "checkpoints/.*", "scores/*/.*")
        for path in below(folder, pattern)
        if _HALF.fullmatch(path.name) and path.is_file()
    ]
    return sorted([*hidden, *(below(folder, "checkpoints/*.ckpt") if trained else ())])


def _free(folder: Path, listed: Sequence[Path]) -> tuple[int, int]:
    """Delete listed files that are still unneeded; return their number and bytes."""
    if is_locked(folder):
        print(f"left alone: {folder}, which is in use by a process now")
        return 0, 0
    with locked(folder):
        # List again: the run may have been resumed and stopped since the question.
        files = [file for file in unneeded(look(folder)) if file in listed]
        size = _bytes(files)
        for file in files:
            file.unlink()
    return len(files), size


def _confirm(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        print()
        return False


def _bytes(files: Sequence[Path]) -> int:
    return sum(file.stat().st_size for file in files)


def _amount(files: Sequence[Path]) -> str:
    return _size(_bytes(files))


def _size(size: int) -> str:
    return f"{size / 1e6:,.0f} MB" if size >= 1e7 else f"{size / 1e6:.1f} MB"
