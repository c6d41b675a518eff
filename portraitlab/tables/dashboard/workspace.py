"""Build a W&B workspace that shows the runs of one comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import wandb_workspaces.reports.v2 as panels
import wandb_workspaces.workspaces as workspaces

from portraitlab.training.loggers import STEP

_JUDGED = "score/sim_f"


@dataclass(frozen=True)
class WorkspaceContent:
    """Runs that a dashboard compares: the jobs of a sweep, or the rows of a table.

    keys: keys of the runs (Run.key), which are also their ids in W&B. W&B's group is not used: it
    names the sweep that trained a run, and other sweeps that find it done compare it as well.
    varied: the settings in which they differ, as on the command line; without the seed, they
    identify the rows. metrics: names of the figures. curves: names of the losses.
    """

    name: str
    keys: Sequence[str]
    varied: Sequence[str]
    metrics: Sequence[str]
    curves: Sequence[str]

    @property
    def rows(self) -> list[str]:
        """The settings that identify rows; runs of one row differ only in the seed."""
        return [name for name in self.varied if name != "seed"] or ["row"]


def build_workspace(compared: WorkspaceContent, entity: str, project: str) -> workspaces.Workspace:
    """Build the workspace: bars, curves, parallel coordinates, importance of settings and pictures.

    Runs are grouped by row; a group shows the mean over its seeds and their range.
    """
    # Draw metrics and losses; panels follow the grouping of the list of runs.
    group: dict[str, Any] = {"groupby_aggfunc": "mean", "groupby_rangefunc": "minmax"}
    bars = [
        panels.BarPlot(title=name, metrics=[f"score/{name}"], **group) for name in compared.metrics
    ]
    curves = [
        panels.LinePlot(title=name, x=STEP, y=[f"train/{name}"], **group)
        for name in compared.curves
    ]
    # Relate the settings to the main metric.
    axes: list[Any] = [panels.Config(_config_key(name)) for name in compared.varied]
    axes.append(panels.SummaryMetric(_JUDGED))
    columns = [panels.ParallelCoordinatesPlotColumn(metric=axis) for axis in axes]
    settings = [
        panels.ParallelCoordinatesPlot(columns=columns),
        panels.ParameterImportancePlot(with_respect_to=_JUDGED),
    ]
    pictures = [
        panels.MediaBrowser(title="grid", media_keys=["grid"], gallery_axis="run"),
        panels.WeavePanelSummaryTable(table_name="portraits"),
    ]
    # Show the sections over the grouped runs.
    sections: dict[str, list[Any]] = {
        **{"results": bars, "curves": curves},
        **{"settings": settings, "pictures": pictures},
    }
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=compared.name,
        sections=[
            workspaces.Section(name=name, panels=shown, is_open=True)
            for name, shown in sections.items()
        ],
        runset_settings=workspaces.RunsetSettings(
            filters=[workspaces.Metric("ID").isin(list(compared.keys))],
            groupby=[workspaces.Config(_config_key(name)) for name in compared.rows],
        ),
    )


def _config_key(name: str) -> str:
    """Return W&B's name of a setting; choices of groups and plain numbers are at the top."""
    return f"config.{name}" if "." in name else name
