"""Fréchet distance between sets of images (Heusel et al., NeurIPS 2017), by CLIP's embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from cleanfid.fid import frechet_distance
from numpy.typing import NDArray
from torch import Tensor

from portraitlab.world.models.clip import ClipEncoder

Statistics = tuple[NDArray[Any], NDArray[Any]]


@torch.no_grad()
def statistics(clip: ClipEncoder, images: Tensor) -> Statistics:
    """Compute mean [96] and covariance [96, 96] of CLIP's embeddings of images.

    images [B, 3, H, W] in [-1, 1].
    """
    parts = [clip.image_embedding(part) for part in images.split(100)]
    features = torch.cat(parts).cpu().double().numpy()
    return features.mean(0), np.cov(features, rowvar=False)


def frechet(one: Statistics, other: Statistics) -> float:
    """Compute the distance between two sets, rounded to four digits."""
    return round(float(frechet_distance(*one, *other)), 4)
