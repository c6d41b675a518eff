"""Compare two runs: settings, origin (code, versions, machine) and scores."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portraitlab.runs.records import figure
from portraitlab.runs.survey import find_run, look, read_config, read_record
from portraitlab.support.files import read_json
from portraitlab.support.groups import IDLE
from portraitlab.support.table import Table
from portraitlab.tables.pairing import paired_difference
from portraitlab.tables.report.differences import leaves

# Settings hidden by default: paths, logging, launching, and numbers that other settings refer to.
_APART = IDLE | {"task", "scale"}
_APART_BELOW = ("choices.task", "data.cache", "data.workers", "trainer.max_steps")


@dataclass(frozen=True)
class Side:
    """One of the two: a run with its first record, or with a further one.

    record: empty where there is none. why: the reason for its absence.
    """

    settings: Mapping[str, Any]
    origin: Mapping[str, Any]
    record: Mapping[str, Any]
    why: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the two runs, the folder of runs, and --all."""
    about = "run folder, record folder (RUN/scores/HASH), or the end of a run's name, e.g. its key"
    parser.add_argument("a", metavar="A", help=about)
    parser.add_argument("b", metavar="B", help="second run or record")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), help="folder of all runs (default: runs)"
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="show also settings that change no figure or repeat others",
    )


def run(given: argparse.Namespace) -> None:
    """Print up to three tables. Raises ValueError where a name does not match one run."""
    folders = [_folder(name, given.runs) for name in (given.a, given.b)]
    a, b = (read_side(folder) for folder in folders)
    for name, folder in zip("AB", folders, strict=True):
        print(f"{name}: {folder}")
    settings = differing(_kept(a.settings, given.all), _kept(b.settings, given.all))
    _show("setting", settings, "no setting differs")
    _show("made by", _origins(a, b), "made by the same code, versions and machine")
    if a.record and b.record:
        scores_table(a.record, b.record).show()
    for name, side in (("A", a), ("B", b)):
        if not side.record:
            print(f"{name} has no scores: {side.why}")


def read_side(folder: Path) -> Side:
    """Read a run's folder, or that of a further record.

    Raises ValueError where it is neither, or a file in it is damaged.
    """
    # Read a run.
    if (folder / "status.json").is_file() or (folder / "config.yaml").is_file():
        found = look(folder)
        if found.state == "damaged":
            raise ValueError(found.message)
        why = found.state if found.message is None else f"{found.state}: {found.message}"
        settings = {**found.config, **_scoring(found.record)}
        return Side(settings, read_json(folder / "origin.json") or {}, found.record, why)

    # Read a further record.
    record = read_record(folder / "metrics.json")
    if not record:
        raise ValueError(
            f"{folder} has no status.json or metrics.json; give the folder of a run, "
            "runs/SYSTEM/NAME, or of a record, runs/SYSTEM/NAME/scores/HASH"
        )
    trained = folder.parent.parent
    settings = read_config(trained / "config.yaml")
    # A further record stores only the choices of its scoring.
    chosen = {name: record[name] for name in settings.get("choices", {}) if name in record}
    settings |= {"choices": chosen, "refs": record["refs"], **_scoring(record)}
    return Side(settings, read_json(trained / "origin.json") or {}, record)


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Map the dotted paths at which two nested mappings differ to both values as text."""
    one, other = dict(leaves(a)), dict(leaves(b))
    return {
        path: (one.get(path, ""), other.get(path, ""))
        for path in [*one, *(path for path in other if path not in one)]
        if one.get(path) != other.get(path)
    }


def scores_table(a: Mapping[str, Any], b: Mapping[str, Any]) -> Table:
    """Tabulate by metric both figures, the difference paired by identity, and the better one.

    A difference below two of its standard errors is undecided. a, b: records.
    """
    ones, others = a["metrics"], b["metrics"]
    rows, notes = [], []
    for name in [*ones, *(name for name in others if name not in ones)]:
        if name not in ones or name not in others:
            have = [figure(metrics[name]) if name in metrics else "" for metrics in (ones, others)]
            rows.append([name, *have, "", "", ""])
            continue
        # Compare the figures, paired by identity where both records have them.
        one, other = ones[name], others[name]
        arrow = "↑" if one["higher_is_better"] else "↓"
        row = [f"{name} {arrow}", figure(one), figure(other)]
        by_identity = one.get("by_identity"), other.get("by_identity")
        if all(by_identity):
            paired = paired_difference(by_identity[1], by_identity[0])
            better = _better(paired.difference, paired.error, one["higher_is_better"])
            row += [_difference(paired.difference, paired.error), str(paired.identities), better]
        elif None not in (one["value"], other["value"]):
            row += [f"{other['value'] - one['value']:+.3f}", "not paired", ""]
        else:
            row += ["", "", ""]
        rows.append(row)
        if one["method"] != other["method"]:
            notes.append(
                f"{name} is not measured alike: {one['method']} (A), {other['method']} (B)"
            )

    # Note different scorings.
    if a["scoring"] != b["scoring"]:
        notes.append(
            "A and B were scored with different settings or pictures (their scoring hashes "
            "differ), which may explain a difference"
        )
    return Table(["metric", "A", "B", "B − A", "people", "better"], rows, notes)


def _folder(name: str, runs: Path) -> Path:
    return Path(name) if Path(name).is_dir() else find_run(name, runs)


def _scoring(record: Mapping[str, Any]) -> dict[str, Any]:
    return {"scoring": record["scoring"]} if record else {}


def _kept(settings: Mapping[str, Any], everything: bool) -> dict[str, Any]:
    if everything:
        return dict(settings)
    flat = {name: value for name, value in settings.items() if name not in _APART}
    for path in _APART_BELOW:
        group, name = path.split(".")
        if isinstance(flat.get(group), Mapping):
            flat[group] = {key: value for key, value in flat[group].items() if key != name}
    return flat


def _origins(a: Side, b: Side) -> dict[str, tuple[str, str]]:
    trained = differing(a.origin, b.origin)
    scored = differing(a.record.get("origin", {}), b.record.get("origin", {}))
    if not (a.record and b.record):
        return trained
    also = {f"{path} (scored)": pair for path, pair in scored.items() if trained.get(path) != pair}
    return trained | also


def _show(heading: str, pairs: Mapping[str, Sequence[str]], none: str) -> None:
    if pairs:
        Table([heading, "A", "B"], [[path, *both] for path, both in pairs.items()]).show()
    else:
        print(none)


def _difference(difference: float, error: float) -> str:
    if math.isnan(difference):
        return ""
    return f"{difference:+.3f}" + ("" if math.isnan(error) else f" ±{error:.3f}")


def _better(difference: float, error: float, higher_is_better: bool) -> str:
    if math.isnan(error):
        return ""
    if abs(difference) <= 2 * error:
        return "undecided"
    return "B" if (difference > 0) is higher_is_better else "A"
