"""Run `portraitlab COMMAND ...` with the command's module."""

from __future__ import annotations

import argparse
import ast
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from portraitlab.support.printing import printable, replace_unencodable


def commands() -> dict[str, str]:
    """Map each command to the first line of its module's docstring, without importing it."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem not in ("__init__", "main"):
            text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            found[path.stem] = text.splitlines()[0]
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Errors of the user are printed as one message, with exit code 1. A command may return another
    exit code.
    """
    replace_unencodable()
    # Parse the arguments; only the called command's module is imported.
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(
        prog="portraitlab", description="Commands on runs, their tables and photos."
    )
    known = commands()
    parsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in known.items():
        command = parsers.add_parser(name, help=text, description=text)
        if name in arguments[:1]:
            import_module(f"portraitlab.app.cli.{name}").add_arguments(command)
    given = parser.parse_args(arguments)

    # Run the command, and print errors of the user as one message.
    try:
        code: int | None = import_module(f"portraitlab.app.cli.{given.command}").run(given)
        sys.stdout.flush()
        return code or 0
    except ValueError as error:
        print(printable(error), file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader, such as head, closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:  # an error of the user's folders or disk; the message names the file
        print(printable(error), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
