"""Sim_max: greatest likeness of a portrait to the photos of the person (IC-Portrait, Table 1)."""

from __future__ import annotations

from portraitlab.scoring.metrics.metric import ProfileQuantile


class SimMax(ProfileQuantile):
    """Greatest cosine of the judging recogniser's embeddings; see ProfileQuantile."""

    quantile = 1.0
    method = "greatest cosine of {recogniser}'s embeddings, five-point aligned crops"
