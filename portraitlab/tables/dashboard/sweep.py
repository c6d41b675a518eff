"""Read what a dashboard of a sweep compares."""

from __future__ import annotations

from pathlib import Path

from portraitlab.runs.records import swept_names
from portraitlab.runs.sweep import Sweep
from portraitlab.tables.dashboard.workspace import WorkspaceContent
from portraitlab.training.logged import read_losses

# For a sweep whose jobs have no figures or losses yet.
_METRICS = (
    *("sim_f", "clip_f", "exp", "pose", "fid", "clip_t"),
    *("copy_paste", "rank1", "intrusion"),
)
_CURVES = ("loss",)


def sweep_comparison(folder: Path) -> WorkspaceContent:
    """Collect keys, settings and metrics of the sweep in a folder; ValueError if there is none."""
    sweep = Sweep.read(folder)
    outcomes = [job.outcome() for job in sweep.jobs]
    metrics = dict.fromkeys(
        name for record in outcomes if not isinstance(record, str) for name in record["metrics"]
    )
    lines = [line for job in sweep.jobs for line in read_losses(job.run.losses)]
    logged = dict.fromkeys(name for line in lines for name in line if name.startswith("train/"))
    return WorkspaceContent(
        name=folder.resolve().name,
        keys=list(dict.fromkeys(job.run.key for job in sweep.jobs)),
        varied=swept_names([job.overrides for job in sweep.jobs]),
        metrics=list(metrics) or _METRICS,
        curves=[name.removeprefix("train/") for name in logged] or _CURVES,
    )
