"""List runs with their states, key settings and scores."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from portraitlab.runs.records import figure, headings
from portraitlab.runs.survey import KEY_SETTINGS, STATES, FoundRun, look, run_folders
from portraitlab.support.table import Table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the folder, the filters, the order and the format."""
    parser.add_argument(
        "folder", type=Path, nargs="?", default=Path("runs"), help="folder of runs (default: runs)"
    )
    parser.add_argument("--state", choices=STATES, help="list only runs in this state")
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="list only runs with this setting, e.g. fusion=concat or data.split=test; repeatable",
    )
    parser.add_argument(
        "--sort",
        metavar="NAME",
        help="sort by a metric, best first, or by a setting (default: by time, latest last)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(given: argparse.Namespace) -> None:
    """Print the table. Raises ValueError for settings and metrics that no run has."""
    found = [look(folder) for folder in run_folders(given.folder)]
    shown = [each for each in found if given.state in (None, each.state)]
    for condition in given.where:
        shown = _where(shown, condition)
    shown = _sorted(shown, given.sort)
    now = datetime.now(UTC)
    if given.json:
        print(json.dumps([_content(each, now) for each in shown], indent=2))
        return
    if not shown:
        print(f"no run in {given.folder}" + (" matches" if found else ""))
        return
    runs_table(shown, now).show()


def runs_table(found: Sequence[FoundRun], now: datetime) -> Table:
    """Tabulate runs, one row each; common settings and the runs' messages are notes below."""
    # Separate the settings that vary from those that all runs share.
    settings = {name: [_text(each, name) for each in found] for name in KEY_SETTINGS}
    common = {
        name: texts[0] for name, texts in settings.items() if len(found) > 1 and len({*texts}) == 1
    }
    varying = [name for name in settings if name not in common and any(settings[name])]

    # Write the rows.
    metrics = {name: metric for each in found for name, metric in each.metrics.items()}
    again = any(each.scorings for each in found)
    rows = []
    for place, each in enumerate(found):
        row = [each.key, _state(each), _age(each, now)]
        row += [settings[name][place] for name in varying]
        row += [figure(each.metrics[name]) if name in each.metrics else "" for name in metrics]
        rows.append([*row, *([str(len(each.scorings) or "")] if again else [])])

    # Write the columns and notes.
    columns = ["run", "state", "last sign", *varying, *headings([{"metrics": metrics}])]
    notes = [f"{each.key} {each.state}: {each.message}" for each in found if each.message]
    alike = " ".join(f"{name}={text}" for name, text in common.items() if text)
    if alike:
        notes.insert(0, f"all: {alike}")
    return Table([*columns, *(["scored again"] if again else [])], rows, notes)


def _where(found: Sequence[FoundRun], condition: str) -> list[FoundRun]:
    name, sign, wanted = condition.partition("=")
    if not sign:
        raise ValueError(f"--where {condition} has no value; give it as --where {condition}=VALUE")
    texts = [_text(each, name) for each in found]
    if found and not any(texts):
        raise ValueError(
            f"--where {condition}: no run has the setting {name}; settings are "
            f"{', '.join(KEY_SETTINGS)}, and the dotted names of config.yaml"
        )
    return [each for each, text in zip(found, texts, strict=True) if text == wanted]


def _sorted(found: Sequence[FoundRun], name: str | None) -> list[FoundRun]:
    if name is None:
        never = datetime.min.replace(tzinfo=UTC)
        return sorted(found, key=lambda each: each.written or never)
    metrics = [each.metrics[name] for each in found if name in each.metrics]
    if metrics:
        sign = -1 if metrics[0]["higher_is_better"] else 1
    elif found and not any(_text(each, name) for each in found):
        figures = dict.fromkeys(metric for each in found for metric in each.metrics)
        raise ValueError(
            f"--sort {name}: no run has such a metric or setting; there are "
            f"{', '.join([*figures, *KEY_SETTINGS])}"
        )

    def order(each: FoundRun) -> tuple[bool, bool, Any]:
        value = each.metrics.get(name, {}).get("value") if metrics else _setting(each, name)
        if isinstance(value, int | float):
            return False, False, sign * value if metrics else value
        return value is None, True, _text(each, name)

    return sorted(found, key=order)


def _content(each: FoundRun, now: datetime) -> dict[str, Any]:
    progress = {
        name: each.status[name] for name in ("doing", "step", "steps") if name in each.status
    }
    return {
        "run": each.key,
        "folder": str(each.folder),
        "state": each.state,
        "written": None if each.written is None else each.written.isoformat(),
        "seconds_since": None if each.written is None else (now - each.written).total_seconds(),
        **progress,
        "message": each.message,
        "settings": {name: _setting(each, name) for name in KEY_SETTINGS},
        "scores": {
            name: {"value": metric["value"], "error": metric["error"]}
            for name, metric in each.metrics.items()
        },
        "scored_again": list(each.scorings),
    }


def _setting(each: FoundRun, name: str) -> Any:
    try:
        return each.setting(name)
    except KeyError:
        return None


def _text(each: FoundRun, name: str) -> str:
    """Format a setting as in a command (true, null); empty where the run has none."""
    try:
        value = each.setting(name)
    except KeyError:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _state(each: FoundRun) -> str:
    status = each.status
    if "step" in status and "steps" in status:
        return f"{each.state} {status['step']}/{status['steps']}"
    doing = status.get("doing") if each.state == "running" else None
    return each.state if doing is None else f"{each.state} ({doing})"


def _age(each: FoundRun, now: datetime) -> str:
    if each.written is None:
        return ""
    seconds = max(0, int((now - each.written).total_seconds()))
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {name} ago"
    return f"{seconds} s ago"
