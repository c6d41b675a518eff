"""Sim_median: median likeness of a portrait to the photos of the person (IC-Portrait, Table 1)."""

from __future__ import annotations

from portraitlab.scoring.metrics.metric import ProfileQuantile


class SimMedian(ProfileQuantile):
    """Median cosine of the judging recogniser's embeddings; see ProfileQuantile."""

    quantile = 0.5
    method = "median cosine of {recogniser}'s embeddings, five-point aligned crops"
