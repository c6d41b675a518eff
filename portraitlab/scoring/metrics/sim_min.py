"""Sim_min: least likeness of a portrait to the photos of the person (IC-Portrait, Table 1)."""

from __future__ import annotations

from portraitlab.scoring.metrics.metric import ProfileQuantile


class SimMin(ProfileQuantile):
    """Least cosine of the judging recogniser's embeddings; see ProfileQuantile."""

    quantile = 0.0
    method = "least cosine of {recogniser}'s embeddings, five-point aligned crops"
