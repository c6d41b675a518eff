"""Configurations of the miniature and models of them, with random weights."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from portraitlab.method.model import PortraitModel
from portraitlab.tables.composing import composed
from portraitlab.training.build import build_model


@cache
def _composed(overrides: tuple[str, ...]) -> dict[str, Any]:
    return composed(["scale=smoke", "select=angle", *overrides])


def settings_of(*overrides: str) -> dict[str, Any]:
    """The resolved configuration of `run.py scale=smoke …`."""
    return copy.deepcopy(_composed(overrides))


def model_of(config: dict[str, Any]) -> PortraitModel:
    """Its model, with random weights everywhere that training would move."""
    built = OmegaConf.create(config)
    model = build_model(built, instantiate(built.backbone), instantiate(built.encoder))
    torch.manual_seed(1)
    for parameter in model.trained_parameters():
        nn.init.normal_(parameter, std=0.05)
    return model
