"""Measure matching by the true correspondence of views: figure 4 of IC-Portrait as numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from torch import Tensor

from portraitlab.app.experiment import device_of
from portraitlab.method.model import PortraitModel
from portraitlab.runs.key import plain
from portraitlab.runs.origin import origin
from portraitlab.runs.run import NoRun, Run
from portraitlab.scoring.matching import (
    Descriptors,
    NoDescriptors,
    ViewPairs,
    flow_sheet,
    found_places,
    matching_figures,
)
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

    descriptors: descriptors by name. steps: lengths of the trainings of this configuration whose
    nets are compared; 0 is the untrained net. Nets that are not trained, and descriptors without
    weights, are skipped with a note. degrees: angles between the cameras. shares: sampled shares of
    the style pictures' pixels. people: number of pairs at each angle. split: split of the people.
    out: output folder.

    Raises ValueError for an empty list, and for an angle, a share or a split out of range.
    """

    def __init__(
        self,
        descriptors: Mapping[str, Descriptors],
        steps: Sequence[int],
        degrees: Sequence[float],
        shares: Sequence[float],
        people: int,
        split: str,
        out: str,
    ) -> None:
        if not degrees or not all(0 <= each <= 60 for each in degrees):
            raise ValueError(f"task.degrees={degrees}: angles from 0 to 60 degrees are needed")
        if not shares or not all(0 < each <= 1 for each in shares):
            raise ValueError(f"task.shares={shares}: shares above 0 and at most 1 are needed")
        check_choice("task.split", split, IDENTITIES)
        self.descriptors = descriptors
        self.steps = [check_whole("task.steps", each, 0) for each in steps]
        self.degrees = list(degrees)
        self.shares = list(shares)
        self.people = check_whole("task.people", people, 1, len(IDENTITIES[split]))
        self.split = split
        self.out = Path(out).expanduser()

    def __call__(self, config: DictConfig) -> dict[str, Any]:
        """Write matching.json and flows.png, print the table, and return the record."""
        # Build the model, and read the weights of its trainings.
        model = build_parts(config, device_of(config.trainer)).model.eval()
        nets, left = self._nets(config, model)
        measured = [
            (f"{name}, {steps} steps" if each.trained else name, each, weights)
            for name, each in self.descriptors.items()
            for steps, weights in (nets.items() if each.trained else [(0, None)])
        ]

        # Match all pairs by all descriptors.
        backbone = model.backbone
        people = IDENTITIES[self.split][: self.people]
        rows: list[dict[str, Any]] = []
        for degrees in self.degrees:
            pairs = ViewPairs.render(people, degrees, backbone.image_size, backbone.latent_size)
            shown: dict[str, Tensor] = {}
            for name, descriptors, weights in measured:
                if weights is not None:
                    model.load_trained_state_dict(weights)
                for share in self.shares:
                    try:
                        places = found_places(
                            *(descriptors, model, pairs, share),
                            seed=config.seed,
                            batch_size=config.scale.score_batch_size,
                        )
                    except (NoDescriptors, MissingWeights) as error:
                        left[name] = str(error)
                        break
                    rows += [
                        {"descriptors": name, "degrees": degrees, "share": share, "region": region}
                        | {measure: _figure(value) for measure, value in figures.items()}
                        for region, figures in matching_figures(places, pairs).items()
                    ]
                    shown[f"{name} {share:.0%}"] = places[:_SHOWN]
            save(flow_sheet(pairs[:_SHOWN], shown), self.out / f"flows-{degrees:g}.png")

        # Write the record.
        record = {
            "choices": {str(name): choice for name, choice in config.choices.items()},
            "seed": config.seed, "split": self.split, "people": self.people,
            "cells": backbone.latent_size, "rows": rows, "left_out": left, "origin": origin(),
        }  # fmt: skip
        write_json(self.out / "matching.json", record)
        for region in ("person", "face"):
            _table(rows, region, self.degrees).show()
        for name, reason in left.items():
            print(f"left out: {name}: {reason}")
        print(f"record: {self.out / 'matching.json'}")
        return record

    def _nets(
        self, config: DictConfig, model: PortraitModel
    ) -> tuple[dict[int, dict[str, Tensor]], dict[str, str]]:
        """Read weights by the steps of their training; return also why others are left out."""
        nets: dict[int, dict[str, Tensor]] = {}
        left: dict[str, str] = {}
        for steps in self.steps:
            if steps == 0:
                initial = model.trained_state_dict()
                nets[0] = {name: value.clone() for name, value in initial.items()}
                continue
            trained = deepcopy(config)
            trained.budget.steps = steps
            run = Run.of(plain(trained))
            try:
                run.require_weights()
                nets[steps] = run.read_weights()
            except NoRun as error:
                left[f"{steps} steps"] = str(error)
        return nets, left


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
