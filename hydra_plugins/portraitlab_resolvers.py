"""Register the resolvers of `${...}` in conf/; Hydra imports all plugins before it composes."""

from collections.abc import Mapping
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from portraitlab.app.help import help_text
from portraitlab.runs.sweep import sweep_name
from portraitlab.support.groups import RECORDED


def chosen_names() -> DictConfig:
    """Resolve `${chosen_names:}`: the choice of each recorded group."""
    names = HydraConfig.get().runtime.choices
    return OmegaConf.create({name: names[name] for name in RECORDED})


def by_scale(sizes: Mapping[str, Any], _root_: DictConfig) -> Any:
    """Resolve `${by_scale:{smoke: 2, mini: 16, sd15: 32, sdxl: 32}}` to the chosen scale's size.

    Raises ValueError where there is no size for the chosen scale.
    """
    scale = _root_.choices.scale
    if scale not in sizes:
        raise ValueError(
            f"scale={scale} is not among the sizes {', '.join(sizes)}: add it to by_scale in the "
            "choice's file in conf/"
        )
    return sizes[scale]


OmegaConf.register_new_resolver("sweep_name", sweep_name, replace=True)
OmegaConf.register_new_resolver("help_text", help_text, replace=True)
OmegaConf.register_new_resolver("by_scale", by_scale, replace=True)
OmegaConf.register_new_resolver("chosen_names", chosen_names, replace=True)
