"""Results of a paper's table: one JSON file for each row and seed, small enough to commit.

    results/<row>-<seed>.json

contains the row's name, the run's key and scoring, the settings that determine them, the figures,
the times, commit, versions and machine, and the training's losses as a short curve.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portraitlab.runs.key import decisive
from portraitlab.runs.run import Record, Run
from portraitlab.runs.survey import read_config
from portraitlab.support.files import read_json, write_json
from portraitlab.tables.curve import Curve, short_curve
from portraitlab.tables.paper_table import PaperRow, PaperTable
from portraitlab.training.logged import read_losses


class _ResultFile(Record):
    row: str
    seed: int
    key: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class Result:
    """One row trained from one seed. content: content of its file."""

    row: str
    seed: int
    content: Mapping[str, Any]

    @property
    def metrics(self) -> Mapping[str, Mapping[str, Any]]:
        """Figures by metric."""
        metrics: Mapping[str, Mapping[str, Any]] = self.content["metrics"]
        return metrics

    def value(self, metric: str) -> float | None:
        """Return the figure of a metric; None where it was not measured."""
        value: float | None = self.metrics[metric]["value"] if metric in self.metrics else None
        return value


def result_path(folder: Path, row: PaperRow, seed: int) -> Path:
    """Return the path of the result of a row and seed in a table's folder."""
    return folder / "results" / f"{row.slug}-{seed}.json"


def read_results(table: PaperTable) -> list[Result]:
    """Read the results of a table's declared rows and seeds, in that order.

    Missing results, and those of another protocol than the table's, are left out. Raises
    DamagedFile (a ValueError) where a result is damaged.
    """
    found = []
    for row in table.rows:
        for seed in table.seeds:
            content = read_json(result_path(table.folder, row, seed), _ResultFile)
            # Records of the first edition do not name their protocol.
            if content is not None and content.get("protocol", 1) == table.protocol:
                found.append(Result(row.name, seed, content))
    return found


def results_by_content(folders: Iterable[Path]) -> dict[tuple[str, str], Path]:
    """Find tables' results by key and scoring; the first table's where several have one."""
    found: dict[tuple[str, str], Path] = {}
    for path in (path for folder in folders for path in sorted(folder.glob("results/*.json"))):
        content = read_json(path, _ResultFile)
        assert content is not None
        found.setdefault((content["key"], content["scoring"]), path)
    return found


def result_from(path: Path, row: PaperRow) -> Result:
    """Read a result's file as a row of a table, which may be another than it was written for."""
    content = read_json(path, _ResultFile)
    assert content is not None
    return Result(row.name, content["seed"], {**content, "row": row.name})


def result_of(row: PaperRow, seed: int, run: Run, record: Mapping[str, Any]) -> Result:
    """Make the result of a finished run: record, settings and times, without bulky parts."""
    noted = run.noted()
    bounds = {
        bound: {
            name: {key: value for key, value in metric.items() if key != "by_identity"}
            for name, metric in metrics.items()
        }
        for bound, metrics in record["bounds"].items()
    }
    settings = decisive(read_config(run.record_folder / "config.yaml"))
    named = {"row": row.name, "seed": seed, "key": run.key, "scoring": run.scoring}
    content: dict[str, Any] = dict(named)
    content |= {name: noted[name] for name in ("training_seconds", "precision") if name in noted}
    content |= {**record, **named}
    content |= {"bounds": bounds, "trained_by": run.trained_by(), "settings": settings}
    content["curve"] = _curve(run)
    return Result(row.name, seed, content)


def _curve(run: Run) -> Curve:
    """Return the loss curve of a run; {} where the log is damaged, which affects no figure."""
    try:
        return short_curve(read_losses(run.losses))
    except ValueError:
        return {}


def write_result(folder: Path, row: PaperRow, result: Result) -> None:
    """Write a result's file."""
    write_json(result_path(folder, row, result.seed), result.content, summed=True)
