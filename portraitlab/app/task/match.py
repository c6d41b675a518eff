"""Measure matching by the true correspondence of views: figure 4 of IC-Portrait as numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from torch import Tensor

from portraitlab.app.experiment import device_of
from portraitlab.runs.key import plain
from portraitlab.runs.origin import origin
from portraitlab.runs.run import Run
from portraitlab.scoring.descriptors import Descriptors, NoDescriptors
from portraitlab.scoring.matching import ViewPairs, flow_sheet, found_places, matching_figures
from portraitlab.scoring.metrics.metric import Estimate
from portraitlab.scoring.pictures import save
from portraitlab.support.checks import check_choice, check_whole
from portraitlab.support.files import write_json
from portraitlab.support.table import Table
from portraitlab.training.build import build_parts
from portraitlab.world.pretrained import MissingWeights
from portraitlab.world.splits import IDENTITIES

_SHOWN = 3
"""Pairs in the picture."""


class MatchViews:
    """A task that matches pairs of views of held-out people by several descriptors.

    descriptors: by name; those that the model or its weights cannot give are left out with a note.
    degrees: angles between the cameras. shares: of the style pictures' pixels that are sampled.
    people: number of pairs at each angle. split: of the people. run: a run's folder, or None for
    the run that the configuration describes; where that is not trained, its net has 0 steps. out:
    output folder where there is no run.

    Raises ValueError for an empty list, and for an angle, a share or a split out of range.
    """

    def __init__(
        self,
        descriptors: Mapping[str, Descriptors],
        degrees: Sequence[float],
        shares: Sequence[float],
        people: int,
        split: str,
        out: str,
        run: str | None = None,
    ) -> None:
        if not degrees or not all(0 <= each <= 60 for each in degrees):
            raise ValueError(f"task.degrees={degrees}: angles from 0 to 60 degrees are needed")
        if not shares or not all(0 < each <= 1 for each in shares):
            raise ValueError(f"task.shares={shares}: shares above 0 and at most 1 are needed")
        check_choice("task.split", split, IDENTITIES)
        self.descriptors = descriptors
        self.degrees = list(degrees)
        self.shares = list(shares)
        self.people = check_whole("task.people", people, 1, len(IDENTITIES[split]))
        self.split = split
        self.out = Path(out).expanduser()
        self.run = run

    def __call__(self, config: DictConfig) -> dict[str, Any]:
        """Write matching.json and flows.png, print the table, and return the record."""
        # Build the model, and load the run's weights where there are any.
        run = Run.of(plain(config), self.run)
        if self.run is not None:
            run.require_weights()
        trained = run.weights.is_file()
        model = build_parts(config, device_of(config.trainer)).model.eval()
        if trained:
            model.load_trained_state_dict(run.read_weights())
        folder = run.record_folder if trained else self.out

        # Match all pairs by all descriptors.
        backbone = model.backbone
        people = IDENTITIES[self.split][: self.people]
        sizes = backbone.image_size, backbone.latent_size
        rows: list[dict[str, Any]] = []
        shown: dict[str, Tensor] = {}
        left: dict[str, str] = {}
        for degrees in self.degrees:
            pairs = ViewPairs.render(people, degrees, *sizes)
            for name, descriptors in self.descriptors.items():
                for share in self.shares:
                    try:
                        places = found_places(
                            *(descriptors, model, pairs, share),
                            seed=config.seed,
                            batch_size=config.scale.score_batch_size,
                        )
                    except (NoDescriptors, MissingWeights) as error:
                        left[name] = str(error)
                        continue
                    figures = matching_figures(places, pairs)
                    rows += [
                        {"descriptors": name, "degrees": degrees, "share": share, "region": region}
                        | {measure: _figure(value) for measure, value in measured.items()}
                        for region, measured in figures.items()
                    ]
                    shown[f"{name} {share:.0%}"] = places[:_SHOWN]
            save(flow_sheet(pairs[:_SHOWN], shown), folder / f"flows-{degrees:g}.png")

        # Write the record.
        record = {
            "key": run.key, "steps": config.budget.steps if trained else 0, "seed": config.seed,
            "backbone": config.choices.backbone, "split": self.split, "people": self.people,
            "cells": backbone.latent_size, "rows": rows, "left_out": left, "origin": origin(),
        }  # fmt: skip
        write_json(folder / "matching.json", record)
        for region in ("person", "face"):
            _table(rows, region, self.degrees).show()
        for name, reason in left.items():
            print(f"left out: {name}: {reason}")
        print(f"record: {folder / 'matching.json'}")
        return record


def _figure(estimate: Estimate) -> dict[str, float | None]:
    """Return value and standard error; None for what cannot be measured."""
    return {
        name: None if number != number else round(number, 4)
        for name, number in (("value", estimate.value), ("error", estimate.error))
    }


def _table(rows: Sequence[Mapping[str, Any]], region: str, degrees: Sequence[float]) -> Table:
    """Tabulate end-point errors and shares within two cells by angle."""
    cells: dict[tuple[str, float], list[str]] = {}
    for row in rows:
        if row["region"] == region:
            error, within = row["end_point_error"], row["within_2"]
            cells.setdefault((row["descriptors"], row["share"]), []).append(
                "not measured"
                if error["value"] is None
                else f"{error['value']:.2f} ±{error['error'] or 0:.2f}, {within['value']:.0%}"
            )
    return Table(
        [region, "pixels", *(f"{each:g}°" for each in degrees)],
        [[name, f"{share:.0%}", *line] for (name, share), line in cells.items()],
        ["end-point error in cells of the latents ± standard error over people, and the share of "
         "cells whose match is within two cells; pixels: share of the style picture that is seen"],
    )  # fmt: skip
