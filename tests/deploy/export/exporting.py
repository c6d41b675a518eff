"""Configurations of the miniature and models of them, with random weights."""

from __future__ import annotations

from typing import Any

import composing
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from portraitlab.method.model import PortraitModel
from portraitlab.training.build import build_model


def settings_of(*overrides: str) -> dict[str, Any]:
    """The resolved configuration of `run.py scale=smoke …`."""
    return composing.settings_of("scale=smoke", "select=angle", *overrides)


def model_of(config: dict[str, Any]) -> PortraitModel:
    """Its model, with random weights everywhere that training would move."""
    built = OmegaConf.create(config)
    model = build_model(built, instantiate(built.backbone), instantiate(built.encoder))
    torch.manual_seed(1)
    for parameter in model.trained_parameters():
        nn.init.normal_(parameter, std=0.05)
    return model
