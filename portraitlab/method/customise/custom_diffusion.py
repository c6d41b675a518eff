"""Custom Diffusion: train the text's keys and values for a person (Kumari et al., CVPR 2023)."""

from __future__ import annotations

from portraitlab.method.customise.dreambooth import DreamBooth


class CustomDiffusion(DreamBooth):
    """Train a copy's keys and values of the text alone, as DreamBooth trains the whole UNet.

    The paper's learnt word for the person is left out, since each person has a copy.
    """

    trains = r"attn2\.to_[kv]\."
