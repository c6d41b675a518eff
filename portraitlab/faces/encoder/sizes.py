"""How large an encoder's features are, also of one whose weights are not here."""

from __future__ import annotations

from dataclasses import dataclass

from hydra.utils import instantiate
from omegaconf import DictConfig

from portraitlab.runs.key import check_values

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
    """L local features of d1 numbers, and a global one of d2, of one reference.

    published: with those of published models, which were not asked.
    """

    local_length: int
    local_dim: int
    global_dim: int
    published: bool = False


def feature_sizes(encoder: DictConfig) -> FeatureSizes:
    """Those of the encoder that a configuration describes; of published models without weights,
    also where it names files of others.

    Models that are shipped, and those of other repositories, are built and asked; raises
    ValueError as building them does.
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
