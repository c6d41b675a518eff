"""Sizes of an encoder's features, known even without its weights for published models."""

from __future__ import annotations

from dataclasses import dataclass

from hydra.utils import instantiate
from omegaconf import DictConfig

from portraitlab.support.checks import check_values

_IDENTITY = {  # d2 of the published recognisers
    "portraitlab.faces.encoder.insightface.InsightFaceEncoder": 512,
    "portraitlab.faces.encoder.sface.SFaceEncoder": 128,
}
_PATCHES = {  # L and d1 of the published image encoders, the class token among the L
    "openai/clip-vit-large-patch14": (257, 1024),
    "laion/CLIP-ViT-H-14-laion2B-s32B-b79K": (257, 1280),
}


@dataclass(frozen=True)
class FeatureSizes:
    """Sizes of one reference's features: L local ones of width d1, a global one of width d2.

    published: True where they are looked up for published models, which are not built.
    """

    local_length: int
    local_dim: int
    global_dim: int
    published: bool = False


def feature_sizes(encoder: DictConfig) -> FeatureSizes:
    """Return the feature sizes of the encoder that a configuration describes.

    Published models are looked up without their weights, even where the configuration names files
    of others. Shipped models, and those of other repositories, are built; raises the ValueErrors
    of building them.
    """
    if encoder._target_ not in _IDENTITY:
        check_values(encoder)
        built = instantiate(encoder)
        return FeatureSizes(built.local_length, built.local_dim, built.global_dim)
    clip = encoder.clip
    published = _PATCHES.get(clip.weights.repository) if "weights" in clip else None
    if published is None:
        built = instantiate(clip)
        length, width = built.local_length, built.local_dim
    else:
        length, width = published
        length = 1 if clip.tokens == "pooled" else length
    return FeatureSizes(length, width, _IDENTITY[encoder._target_], published=True)
