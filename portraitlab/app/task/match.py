"""Measure matching by the true correspondence of views: figure 4 of IC-Portrait as numbers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.utils import instantiate

from portraitlab.app.experiment import Bench, show
from portraitlab.app.task.train import Train
from portraitlab.method.matching import warp
from portraitlab.runs.records import figure
from portraitlab.runs.run import Run
from portraitlab.scoring.matching import (
    WITHIN,
    Descriptors,
    ViewPairs,
    flow_sheet,
    found_places,
    matching_figures,
    views_suffix,
)
from portraitlab.scoring.pictures import Shown, save, save_each
from portraitlab.support.checks import check_whole
from portraitlab.support.precision import computing_in
from portraitlab.support.table import Table
from portraitlab.world.splits import IDENTITIES

_SHOWN = 6
"""Pairs in the pictures."""


class MatchViews(Train):
    """A task that trains a run, then matches pairs of views of held-out people by descriptors.

    The descriptors are the configuration's. Untrained ones, such as DIFT, need no net: their runs
    have budget.steps=0. degrees: angles between the cameras; the last one is shown in pictures.
    shares: sampled shares of the style pictures' pixels. timestep: noise level, which the
    descriptors' settings take.

    Raises ValueError for an empty list, and for a number out of range.
    """

    judged = False

    def __init__(self, degrees: Sequence[float], shares: Sequence[float], timestep: int) -> None:
        check_whole("task.timestep", timestep, 0, 999)
        if not degrees or not all(0 <= each <= 60 for each in degrees):
            raise ValueError(f"task.degrees={degrees}: angles from 0 to 60 degrees are needed")
        if not shares or not all(0 < each <= 1 for each in shares):
            raise ValueError(f"task.shares={shares}: shares above 0 and at most 1 are needed")
        self.degrees = list(degrees)
        self.shares = list(shares)

    def score(self, bench: Bench, run: Run) -> dict[str, Any]:
        """Match the pairs, write the record and its pictures, and return the record."""
        begun = time.perf_counter()
        config, parts = bench.config, bench.parts
        descriptors: Descriptors = instantiate(config.descriptors)
        people = IDENTITIES[config.data.split][: config.data.score_identities]
        model = parts.model.to(parts.device).eval()
        backbone = model.backbone

        # Match all pairs.
        metrics: dict[str, Any] = {}
        shown = dict[str, Any]()
        for degrees in self.degrees:
            pairs = ViewPairs.render(people, degrees, backbone.image_size, backbone.latent_size)
            shown.clear()
            for share in self.shares:
                with computing_in(config.precision, parts.device):
                    places = found_places(
                        *(descriptors, model, pairs, share),
                        seed=config.seed,
                        batch_size=config.scale.score_batch_size,
                    )
                metrics |= matching_figures(places, pairs, people, degrees, share)
                shown[f"{share:.0%} of pixels"] = places[:_SHOWN]

        # Show style pictures, profiles, and profiles warped to the style pictures.
        folder = run.record_folder
        pairs = pairs[:_SHOWN]
        save(flow_sheet(pairs, shown), folder / "grid.png")
        warped = warp(pairs.profile, shown[f"{self.shares[0]:.0%} of pixels"])
        save_each(
            [
                Shown(str(person), [profile], None, generated, style)
                for person, profile, generated, style in zip(
                    people[:_SHOWN], pairs.profile, warped, pairs.style, strict=True
                )
            ],
            folder / "samples",
        )
        figures = {
            "descriptors": type(descriptors).__name__,
            "images": 0, "identities": len(people), "real_photos": 0, "faceless": 0,
            "metrics": metrics, "bounds": {},
        }  # fmt: skip
        return bench.write_record(run, figures, begun)

    def show(self, run: Run, record: Mapping[str, Any]) -> None:
        """Print the record, with a column for each angle."""
        titles = {
            "error": "mean distance", "face_error": "mean distance, face",
            **{f"within_{most}": f"within {most}" for most in WITHIN},
        }  # fmt: skip
        lines = []
        for share in self.shares:
            for name, title in titles.items():
                found = [
                    record["metrics"][f"{name}_{views_suffix(each, share)}"]
                    for each in self.degrees
                ]
                lines.append([f"{share:.0%}", title, *map(figure, found)])
        notes = [
            "Distances from the true places in cells of the latents, and shares of cells within 1, "
            "2 and 4 of them, ± standard error over people; pixels: share of the style picture "
            "that the trained net reads."
        ]
        angles = [f"{each:g}°" for each in self.degrees]
        show(run, Table(["pixels", "matches", *angles], lines, notes))
